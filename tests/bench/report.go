// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// row is one line of the table, a cell for each column.
type row struct {
	name string
	cell func(*result) string
}

func times(of func(*result) series) func(*result) string {
	return func(r *result) string {
		s := of(r)
		if len(s) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f / %.1f", s.median(), s.max())
	}
}

func ratio(a, b func(*result) series) func(*result) string {
	return func(r *result) string {
		if d := b(r).median(); d > 0 {
			return fmt.Sprintf("%.2f", a(r).median()/d)
		}
		return "-"
	}
}

func counted(of func(*result) float64) func(*result) string {
	return func(r *result) string {
		if r.traced == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", of(r))
	}
}

func mib(of func(*result) int64) func(*result) string {
	return func(r *result) string {
		if of(r) < 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", float64(of(r))/1024)
	}
}

// busCalls is what snapd asks of systemd and what it hears, in one refresh.
func busCalls(signals bool) func(*result) float64 {
	return func(r *result) float64 {
		var n float64
		for name, count := range r.calls {
			if strings.HasPrefix(name, "signal ") == signals {
				n += count
			}
		}
		return n
	}
}

func transactions(r *result) float64 {
	var n float64
	for name, count := range r.synced {
		if strings.HasPrefix(name, "fdatasync ") && strings.Contains(name, "/state.db") {
			n += count
		}
	}
	return n / 2 // bbolt waits twice for each
}

// report prints the table.
func (b *bench) report() {
	gap := func(r *result) series { return r.gap }
	change := func(r *result) series { return r.change }
	units := func(r *result) series { return r.steps["units"] }
	reload := func(r *result) series { return r.bareReload }
	restart := func(r *result) series { return r.bareRestart }
	copied := func(r *result) series { return r.bareCopy }
	rows := []row{
		{fmt.Sprintf("Times in ms, median / maximum of %d refreshes, of %d where the seal is measured", b.o.refreshes, max(3, b.o.refreshes/2)), nil},
		{"gap, last line of the old main to first of the new", times(gap)},
		{"gap as snapd has recorded it", times(func(r *result) series { return r.recorded })},
		{"workers frozen for at most, as recorded", times(func(r *result) series { return r.frozen })},
		{"whole refresh, change spawned to ready", times(change)},
		{"the same from the request on, upload included", times(func(r *result) series { return r.request })},
		{"snapd's CPU", times(func(r *result) series { return r.cpu })},
		{"PID 1's CPU", times(func(r *result) series { return r.cpuInit })},
		{"the bus' CPU", times(func(r *result) series { return r.cpuBus })},
		{"Tasks, ms", nil},
	}
	rows = append(rows, b.parts(func(r *result) ([]string, map[string]series) { return r.taskNames, r.tasks })...)
	rows = append(rows, row{"Steps of the switch, ms", nil})
	rows = append(rows, b.parts(func(r *result) ([]string, map[string]series) { return r.stepNames, r.steps })...)
	for _, step := range []string{"profiles", "mounts", "files"} {
		rows = append(rows, row{"of the seal: " + step, times(func(r *result) series { return r.sealed[step] })})
	}
	rows = append(rows, []row{
		{"For comparison in the same column, ms", nil},
		{"bare restart, last line to first (it ends workers, too)", times(restart)},
		{"bare daemon-reload", times(reload)},
		{"cp -a of the data and sync", times(copied)},
		{"snapd restarted until ready", func(r *result) string { return fmt.Sprintf("%.1f", r.daemonStart) }},
		{"Ratios of medians", nil},
		{"gap, ms more than in the first column", func(r *result) string {
			return fmt.Sprintf("%+.1f", r.gap.median()-b.results[0].gap.median())
		}},
		{"step \"seal\" : whole refresh", ratio(func(r *result) series { return r.steps["seal"] }, change)},
		{"gap : bare restart", ratio(gap, restart)},
		{"step \"units\" : bare daemon-reload", ratio(units, reload)},
		{"whole refresh : restart + reload + copy", func(r *result) string {
			return fmt.Sprintf("%.2f", r.change.median()/(r.bareRestart.median()+r.bareReload.median()+r.bareCopy.median()))
		}},
		{"whole refresh without units : that of the first column", b.without("units")},
		{"snapd's CPU : that of the first column", func(r *result) string {
			return fmt.Sprintf("%.2f", r.cpu.median()/b.results[0].cpu.median())
		}},
		{"snapd's memory, MiB", nil},
		{"peak (VmHWM)", mib(func(r *result) int64 { return r.memory.peak })},
		{"idle for 5 s, RSS", mib(func(r *result) int64 { return r.idle.rss })},
		{"idle for 5 s, PSS", mib(func(r *result) int64 { return r.idle.pss })},
		{"idle for 5 s, anonymous", mib(func(r *result) int64 { return r.idle.anonymous })},
		{"The disk, per refresh", nil},
		{"written by snapd, MiB", times(func(r *result) series { return r.written })},
		{"waits for the disk (fsync, fdatasync, syncfs, …)", counted(func(r *result) float64 { return r.syncs })},
		{"of these inside the gap", counted(func(r *result) float64 { return r.syncsInGap })},
		{"transactions of state.db", counted(transactions)},
		{"The bus, per refresh", nil},
		{"calls to systemd", counted(busCalls(false))},
		{"signals from systemd", counted(busCalls(true))},
	}...)
	b.print(rows)
	if b.o.verbose {
		b.details("What is synced, per refresh", func(r *result) map[string]float64 { return r.synced })
		b.details("What goes over the bus, per refresh", func(r *result) map[string]float64 { return r.calls })
	}
}

// parts has a row for each named part of a refresh.
func (b *bench) parts(of func(*result) ([]string, map[string]series)) []row {
	var rows []row
	names, _ := of(b.results[0])
	for _, name := range names {
		rows = append(rows, row{name, times(func(r *result) series {
			_, parts := of(r)
			return parts[name]
		})})
	}
	return rows
}

// without compares whole refreshes but for one step.
func (b *bench) without(step string) func(*result) string {
	rest := func(r *result) float64 { return r.change.median() - r.steps[step].median() }
	return func(r *result) string { return fmt.Sprintf("%.2f", rest(r)/rest(b.results[0])) }
}

func (b *bench) print(rows []row) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	width := 0
	for _, r := range rows {
		width = max(width, len(r.name)+2)
	}
	line := func(name string, cell func(*result) string) {
		fmt.Fprintf(w, "%-*s\t", width, name)
		for _, r := range b.results {
			fmt.Fprintf(w, "%s\t", cell(r))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	line("", func(r *result) string { return r.title })
	for _, r := range rows {
		if r.cell == nil {
			line(r.name, func(*result) string { return "" })
			continue
		}
		line("  "+r.name, r.cell)
	}
	w.Flush()
}

// details lists counts by name, columns side by side.
func (b *bench) details(title string, of func(*result) map[string]float64) {
	names := map[string]bool{}
	for _, r := range b.results {
		for name := range of(r) {
			names[name] = true
		}
	}
	rows := []row{{title, nil}}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		rows = append(rows, row{name, func(r *result) string {
			if n := of(r)[name]; n > 0 {
				return fmt.Sprintf("%.1f", n)
			}
			return "-"
		}})
	}
	b.print(rows)
}
