// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"

	"endured/tests/lib/machines"
)

func (h *host) cmdList(context.Context, []string) error { return h.List(os.Stdout) }

// cmdClean removes devices whose owner is gone, devices that are down and nobody's, and cgroups, files and
// locks that belong to no device.
func (h *host) cmdClean(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("clean", flag.ContinueOnError)
	all := f.Bool("all", false, "running devices too, whoever owns them")
	if err := f.Parse(args); err != nil {
		return err
	}
	// Without a record there can still be a cgroup with processes, files on the tmpfs, or a lock.
	var others []string
	for _, pattern := range []string{h.cgroup("*"), filepath.Join(h.uppers, "*"), h.Of("*.lock")} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			name := strings.TrimSuffix(filepath.Base(p), ".lock")
			if strings.HasPrefix(p, h.cgroups) {
				name = strings.TrimPrefix(name, h.cgroupPrefix())
			}
			others = append(others, name)
		}
	}
	defer os.Remove(h.uppers)
	return h.Clean(ctx, others, *all, func(name string, recorded bool) error {
		r := &record{Record: machines.Record{Name: name}, Upper: filepath.Join(h.uppers, name)}
		if recorded {
			var err error
			if r, err = h.load(name); err != nil {
				return err
			}
		}
		return h.remove(ctx, r, true)
	})
}
