// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"endured/systemd"
	"endured/wrappers"
)

// startRuns is how often a service is started in each way.
const startRuns = 25

// way is how a service is confined.
type way struct {
	name  string
	lines []systemd.Option
}

// ways are the directives that every service has, what strict confinement adds
// to them, one by one and together.
func ways() []way {
	every := []systemd.Option{
		{Name: "BindPaths", Value: "/srv:/mnt"}, {Name: "ReadOnlyPaths", Value: "/var/snap"},
		{Name: "ReadWritePaths", Value: "/var/snap/" + snapName + "/common"},
	}
	strict := wrappers.StrictOptions(wrappers.Confinement{Capabilities: []string{"CAP_CHOWN", "CAP_KILL"}})
	out := []way{{name: "no directive"}, {"the mounts of every service", every}}
	for _, group := range [][]string{
		{"CapabilityBoundingSet"}, {"RestrictSUIDSGID"}, {"SystemCallFilter", "SystemCallErrorNumber"}, {"RestrictNamespaces"},
		{"TemporaryFileSystem", "BindReadOnlyPaths"},
	} {
		lines := slices.DeleteFunc(slices.Clone(strict), func(o systemd.Option) bool { return !slices.Contains(group, o.Name) })
		out = append(out, way{"  and " + group[0], append(slices.Clone(every), lines...)})
	}
	all := append(slices.Clone(every), strict...)
	native := append(slices.Clone(all), systemd.Option{Name: "SystemCallArchitectures", Value: "native"})
	return append(out, way{"all that strict services have", all}, way{"  and SystemCallArchitectures=native", native})
}

// starts times the start of a service, from the request to the exec, confined
// in various ways. The ways take turns, so that all meet the same machine.
func (b *bench) starts(ctx context.Context) error {
	all := ways()
	if err := os.MkdirAll("/var/snap/"+snapName+"/common", 0o755); err != nil {
		return err
	}
	name := func(i int) string { return fmt.Sprintf("bench-way-%d.service", i) }
	for i, w := range all {
		service := append([]systemd.Option{{Name: "Type", Value: "exec"}, {Name: "ExecStart", Value: "/bin/sleep infinity"},
			{Name: "KillSignal", Value: "SIGKILL"}}, w.lines...)
		data, err := systemd.Unit{
			{Name: "Unit", Options: []systemd.Option{{Name: "StartLimitIntervalSec", Value: "0"}}}, {Name: "Service", Options: service},
		}.Bytes()
		if err != nil {
			return err
		}
		if err := os.WriteFile("/run/systemd/system/"+name(i), data, 0o644); err != nil {
			return err
		}
	}
	if err := b.systemd.Reload(ctx); err != nil {
		return err
	}
	took := make([]series, len(all))
	for round := range startRuns + 1 {
		for i := range all {
			began := time.Now()
			if err := b.systemd.Run(ctx, "start", name(i), "replace"); err != nil {
				return err
			}
			if round > 0 {
				took[i] = append(took[i], milliseconds(time.Since(began)))
			}
			if err := b.systemd.Run(ctx, "stop", name(i), "replace"); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\nStart of a service until its exec, in ms (median / maximum of %d), more than the mounts of every service take, and as a multiple of them\n", startRuns)
	base := took[1].median()
	for i, w := range all {
		fmt.Printf("  %-42s %6.1f / %6.1f  %+6.1f  %5.2f\n", w.name, took[i].median(), took[i].max(), took[i].median()-base, took[i].median()/base)
	}
	return nil
}
