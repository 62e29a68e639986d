// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"endured/client"
)

func newDebugCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "debug",
		Short: "Look closer at what snapd did",
		Long:  long("Look closer at what snapd did."),
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageErrorf("cannot find a command %q: 'snap help debug' lists them", args[0])
			}
			return usageErrorf("cannot run without a command: 'snap help debug' lists them")
		},
	}
	c.AddCommand(newStateCommand(a), newManCommand(a, func() *cobra.Command { return newRootCommand(a) }), newStoreIndexCommand(a), newTimingsCommand(a))
	return c
}

func newStateCommand(a *app) *cobra.Command {
	var export, absolute bool
	var o output
	c := &cobra.Command{
		Use:   "state",
		Short: "Show all changes with their tasks, or the whole state",
		Long: long(`
Show all changes with their tasks. With --export print the state of snapd as
JSON, in the schema of snapd's state.json, which other tools can read.`),
		Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if export {
				raw, err := a.client.State(c.Context())
				if err == nil {
					fmt.Fprintln(a.out, string(raw))
				}
				return err
			}
			list, err := a.client.Changes(c.Context(), client.ChangesAll, "")
			if err != nil {
				return err
			}
			if done, err := o.json(a, list); done || err != nil {
				return err
			}
			t := newTable("Change", "Task", "Status", "Spawn", "Ready", "Kind", "Summary")
			for i := range list {
				ch := &list[i]
				t.add(ch.ID, "", ch.Status, a.when(ch.SpawnTime, absolute), a.when(timeOf(ch.ReadyTime), absolute), ch.Kind, printable(ch.Summary))
				for j := range ch.Tasks {
					task := &ch.Tasks[j]
					t.add(ch.ID, task.ID, task.Status, a.when(task.SpawnTime, absolute), a.when(timeOf(task.ReadyTime), absolute), task.Kind, printable(task.Summary))
				}
			}
			t.write(a.out)
			return nil
		},
	}
	c.Flags().BoolVar(&export, "export", false, "Print the whole state as JSON, in snapd's schema")
	c.Flags().BoolVar(&absolute, "abs-time", false, absTimeHelp)
	o.formatFlag(c)
	return c
}

func newTimingsCommand(a *app) *cobra.Command {
	var p pick
	var o output
	c := &cobra.Command{
		Use:   "timings [ID]",
		Short: "Show how long the steps of a change took",
		Long:  long("Show how long each step of a change took to do, and to undo."),
		Args:  usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := p.find(c.Context(), a, args)
			if err != nil || id == "" {
				return err
			}
			timing, err := a.client.Timings(c.Context(), id)
			if err != nil {
				return err
			}
			if done, err := o.json(a, timing); done || err != nil {
				return err
			}
			a.printTimings(timing)
			return nil
		},
	}
	p.flag(c)
	o.formatFlag(c)
	return c
}

func (a *app) printTimings(timing *client.Timing) {
	ids := slices.SortedFunc(maps.Keys(timing.Tasks), func(x, y string) int {
		nx, _ := strconv.Atoi(x)
		ny, _ := strconv.Atoi(y)
		return cmp.Or(cmp.Compare(nx, ny), cmp.Compare(x, y))
	})
	t := newTable("ID", "Status", "Doing", "Undoing", "Summary")
	for _, id := range ids {
		task := timing.Tasks[id]
		t.add(id, task.Status, duration(task.DoingTime), duration(task.UndoingTime), printable(task.Summary))
	}
	t.write(a.out)
	a.say("\nTotal: %s", duration(timing.Total))
}

// duration is in milliseconds, which is what steps take.
func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%.2fms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}
