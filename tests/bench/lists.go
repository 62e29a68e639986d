// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// listRuns is how often each command is timed, warm and cold.
const listRuns = 10

// listMany installs many snaps and times what lists them.
func (b *bench) listMany(ctx context.Context) error {
	others, err := numbers(b.o.others, "other snaps")
	if err != nil {
		return err
	}
	if err := b.installOthers(ctx, slices.Max(others)); err != nil {
		return err
	}
	return b.lists(ctx)
}

// lists times "snap list" and "snap services" with the snaps that are there:
// warm, and by a daemon that has just been started on a machine whose page
// cache was dropped. What "snap version" takes
// in the same run is the measure.
func (b *bench) lists(ctx context.Context) error {
	verbs := []string{"version", "list", "services"}
	warm, cold := map[string]series{}, map[string]series{}
	timed := func(into map[string]series, verb string) error {
		began := time.Now()
		if err := output(ctx, "snap", verb); err != nil {
			return err
		}
		into[verb] = append(into[verb], float64(time.Since(began).Microseconds())/1000)
		return nil
	}
	for range listRuns {
		for _, verb := range verbs {
			if err := timed(warm, verb); err != nil {
				return err
			}
		}
	}
	for range listRuns / 2 {
		for _, verb := range verbs {
			began := time.Now()
			if err := output(ctx, "systemctl", "restart", "snapd.service"); err != nil {
				return err
			}
			cold["start"] = append(cold["start"], milliseconds(time.Since(began)))
			if b.o.dropCache {
				if err := dropCaches(ctx); err != nil {
					return err
				}
			}
			if err := timed(cold, verb); err != nil {
				return err
			}
		}
	}
	state := "page cache dropped (this machine's own, see -drop-caches)"
	if !b.o.dropCache {
		state = "page cache as it was"
	}
	fmt.Printf("\nThe command line with %d snaps, every fifth with a running service, in ms (median / worst), and as a multiple of snap version\n", b.others)
	fmt.Printf("cold: the daemon has just been started, %s\n", state)
	for _, verb := range verbs {
		fmt.Printf("  snap %-9s warm %6.1f / %6.1f (%.1f)   cold %6.1f / %6.1f (%.1f)\n", verb,
			warm[verb].median(), warm[verb].max(), warm[verb].median()/warm["version"].median(),
			cold[verb].median(), cold[verb].max(), cold[verb].median()/cold["version"].median())
	}
	fmt.Printf("  start of snapd, until it is ready: %.1f / %.1f\n", cold["start"].median(), cold["start"].max())
	return nil
}

// dropCaches has the kernel forget what it has read. It is the host's cache: a
// device has its own view of /proc, which a new mount gets around.
func dropCaches(ctx context.Context) error {
	proc := filepath.Join(work, "proc")
	if err := os.MkdirAll(proc, 0o755); err != nil {
		return err
	}
	if err := output(ctx, "mount", "-t", "proc", "proc", proc); err != nil {
		return fmt.Errorf("cannot drop the page cache, try -drop-caches=false: %w", err)
	}
	unix.Sync()
	err := os.WriteFile(filepath.Join(proc, "sys/vm/drop_caches"), []byte("3\n"), 0)
	if err != nil {
		err = fmt.Errorf("cannot drop the page cache, try -drop-caches=false: %w", err)
	}
	return errors.Join(err, output(ctx, "umount", proc))
}
