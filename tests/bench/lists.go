// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"
)

// listRuns is how often each command is timed, warm and cold.
const listRuns = 10

// lists times "snap list" and "snap services" with the snaps that are there:
// warm, and by a daemon that has just been started. What "snap version" takes
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
			if err := output(ctx, "systemctl", "restart", "snapd.service"); err != nil {
				return err
			}
			if err := timed(cold, verb); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\nThe command line with %d snaps, in ms (median / worst), and as a multiple of snap version\n", b.others+1)
	for _, verb := range verbs {
		fmt.Printf("  snap %-9s warm %6.1f / %6.1f (%.1f)   after a start of the daemon %6.1f / %6.1f (%.1f)\n", verb,
			warm[verb].median(), warm[verb].max(), warm[verb].median()/warm["version"].median(),
			cold[verb].median(), cold[verb].max(), cold[verb].median()/cold["version"].median())
	}
	return nil
}
