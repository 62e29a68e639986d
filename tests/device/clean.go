// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"endured/tests/lib/machines"
)

func (h *host) cmdList() error {
	names, err := h.Names()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tPID\tAGE\tOWNER")
	for _, name := range names {
		r, err := h.load(name)
		if err != nil {
			fmt.Fprintf(w, "%s\tbroken\t-\t-\t-\n", name)
			continue
		}
		state, pid, owner := "down", "-", "-"
		if r.running() {
			state, pid = "running", fmt.Sprint(r.PID)
		}
		if r.Owner != 0 {
			owner = fmt.Sprint(r.Owner)
		}
		if r.orphaned() {
			owner += " (gone)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, state, pid, time.Since(r.Created).Round(time.Second), owner)
	}
	return w.Flush()
}

// cmdClean removes devices whose owner is gone, devices that are down and nobody's, and cgroups, files and
// locks that belong to no device. What is in use by a living program is locked and left alone.
func (h *host) cmdClean(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("clean", flag.ContinueOnError)
	all := f.Bool("all", false, "running devices too, whoever owns them")
	if err := f.Parse(args); err != nil {
		return err
	}
	names, err := h.Names()
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, name := range names {
		seen[name] = true
	}
	// Without a record there can still be a cgroup with processes, files on the tmpfs, or a lock.
	for _, pattern := range []string{h.cgroup("*"), filepath.Join(h.uppers, "*"), h.Of("*.lock")} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			name := strings.TrimSuffix(filepath.Base(p), ".lock")
			if strings.HasPrefix(p, h.cgroups) {
				name = strings.TrimPrefix(name, h.cgroupPrefix())
			}
			if machines.ValidName(name) && !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	var errs []error
	for _, name := range names {
		if err := h.cleanOne(ctx, name, *all); err != nil {
			errs = append(errs, err)
		}
	}
	os.Remove(h.uppers)
	os.Remove(h.Path)
	return errors.Join(errs...)
}

func (h *host) cleanOne(ctx context.Context, name string, all bool) error {
	wait, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	unlock, err := h.Lock(wait, name)
	if err != nil {
		// Somebody is starting or stopping it right now.
		return nil
	}
	defer unlock()
	r, err := h.load(name)
	if err == nil {
		down := !r.running() && r.Owner == 0
		if all || r.orphaned() || down {
			fmt.Printf("removing %s\n", name)
			return h.remove(ctx, r, true)
		}
		return nil
	}
	// A record is written before anything else of a device runs: without one there is nothing to keep.
	fmt.Printf("removing what is left of %s\n", name)
	r = &record{Name: name, Upper: filepath.Join(h.uppers, name)}
	return h.remove(ctx, r, true)
}
