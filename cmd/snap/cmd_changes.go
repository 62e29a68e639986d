// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"endured/client"
)

const absTimeHelp = "Show times in full (RFC 3339)"

func newChangesCommand(a *app) *cobra.Command {
	var absolute bool
	var o output
	c := &cobra.Command{
		Use:   "changes [SNAP]",
		Short: "List what was done to the system",
		Long:  long("List recent changes to the system, or those of one snap. 'snap tasks ID' shows\nthe steps of one."),
		Args:  usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			if _, err := strconv.Atoi(name); err == nil {
				return fmt.Errorf("cannot list changes of %q: that is no name of a snap; 'snap tasks %[1]s' shows a change", name)
			}
			list, err := a.client.Changes(c.Context(), client.ChangesAll, name)
			if err != nil {
				return err
			}
			if done, err := o.json(a, list); done || err != nil {
				return err
			}
			if len(list) == 0 {
				fmt.Fprintln(a.err, "no changes found")
				return nil
			}
			t := newTable("ID", "Status", "Spawn", "Ready", "Summary")
			for _, ch := range list {
				t.add(ch.ID, ch.Status, a.when(ch.SpawnTime, absolute),
					a.when(timeOf(ch.ReadyTime), absolute), printable(ch.Summary))
			}
			t.write(a.out)
			fmt.Fprintln(a.out)
			return nil
		},
	}
	c.Flags().BoolVar(&absolute, "abs-time", false, absTimeHelp)
	o.formatFlag(c)
	return c
}

// pick is how commands are told which change is meant: an id, or --last.
type pick struct{ last string }

func (p *pick) flag(c *cobra.Command) {
	c.Flags().StringVar(&p.last, "last", "", "Select the last change of a kind: install, refresh, remove, revert, …\n(KIND? is content if there is none)")
}

// find returns the id of the change, "" for none if that is no error.
func (p *pick) find(ctx context.Context, a *app, args []string) (string, error) {
	switch {
	case p.last == "" && len(args) == 0:
		return "", usageErrorf("cannot tell which change is meant: want its id, or --last=KIND")
	case p.last != "" && len(args) > 0:
		return "", usageErrorf("cannot take both an id and --last")
	case p.last == "":
		return args[0], nil
	}
	kind, optional := strings.CutSuffix(p.last, "?")
	list, err := a.client.Changes(ctx, client.ChangesAll, "")
	if err != nil {
		return "", err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if k := list[i].Kind; k == kind || k == kind+"-snap" {
			return list[i].ID, nil
		}
	}
	if optional {
		return "", nil
	}
	return "", fmt.Errorf("cannot find a change of kind %q", kind)
}

func newTasksCommand(a *app) *cobra.Command {
	var (
		p        pick
		absolute bool
		o        output
	)
	c := &cobra.Command{
		Use:     "tasks [ID]",
		Aliases: []string{"change"},
		Short:   "Show the steps of a change",
		Long:    long("Show the steps of a change, and below them what each one logged."),
		Args:    usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := p.find(c.Context(), a, args)
			if err != nil || id == "" {
				return err
			}
			ch, err := a.client.Change(c.Context(), id)
			if err != nil {
				return err
			}
			if done, err := o.json(a, ch); done || err != nil {
				return err
			}
			a.printChange(ch, absolute)
			return nil
		},
	}
	p.flag(c)
	o.formatFlag(c)
	c.Flags().BoolVar(&absolute, "abs-time", false, absTimeHelp)
	return c
}

// dotted is the line above a task's log.
var dotted = strings.Repeat(".", 70)

func (a *app) printChange(ch *client.Change, absolute bool) {
	t := newTable("Status", "Spawn", "Ready", "Summary")
	for i := range ch.Tasks {
		task := &ch.Tasks[i]
		summary := printable(task.Summary)
		if task.Status == "Doing" && task.Progress.Total > 1 {
			summary += fmt.Sprintf(" (%.2f%%)", 100*float64(task.Progress.Done)/float64(task.Progress.Total))
		}
		t.add(task.Status, a.when(task.SpawnTime, absolute), a.when(timeOf(task.ReadyTime), absolute), summary)
	}
	t.write(a.out)
	for i := range ch.Records {
		a.printRecord(&ch.Records[i])
	}
	a.printDeeds(ch)
	for i := range ch.Tasks {
		task := &ch.Tasks[i]
		if len(task.Log) == 0 {
			continue
		}
		a.say("\n%s\n%s\n", dotted, printable(task.Summary))
		for _, line := range task.Log {
			a.say("%s", printable(line))
		}
	}
	fmt.Fprintln(a.out)
}

func newWatchCommand(a *app) *cobra.Command {
	var p pick
	c := &cobra.Command{
		Use:   "watch [ID]",
		Short: "Wait for a change",
		Long:  long("Wait for a change that is under way, showing its progress, and end as it does.\nCtrl-C asks to abort it."),
		Args:  usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := p.find(c.Context(), a, args)
			if err != nil || id == "" {
				return err
			}
			_, err = a.wait(c.Context(), waiting{}, id)
			return err
		},
	}
	p.flag(c)
	return c
}

func newAbortCommand(a *app) *cobra.Command {
	var p pick
	c := &cobra.Command{
		Use:   "abort [ID]",
		Short: "Abort a change and undo what it did",
		Long:  long("Ask for a change that is under way to be aborted. What it has done is undone."),
		Args:  usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := p.find(c.Context(), a, args)
			if err != nil || id == "" {
				return err
			}
			_, err = a.client.Abort(c.Context(), id)
			return err
		},
	}
	p.flag(c)
	return c
}
