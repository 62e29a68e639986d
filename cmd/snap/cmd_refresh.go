// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"endured/client"
)

type refreshCommand struct {
	*app
	waiting
	output
	fromStore
	holding
	list, times, dryRun bool
}

func newRefreshCommand(a *app) *cobra.Command {
	cmd := refreshCommand{app: a}
	c := &cobra.Command{
		Use:   "refresh [NAME...]",
		Short: "Refresh snaps from the store",
		Long: long(`
Refresh the snaps named, or all of them, to the revision that their channel has.
Each snap is refreshed for itself: one that fails goes back to what it was and
holds up no other. What happens to running services is what they declared with
refresh-mode; --list shows which refreshes there are and what each would
disturb, --dry-run the whole plan.

With --hold, the snaps named are passed over when all are refreshed; to name one
refreshes it all the same. Without a name it is refreshes that would begin by
themselves which are held: it sets refresh.hold of the system.

A snap that came from a file is refreshed by installing another file over it, or
goes to the store's revision with --amend.`, exitConflict),
		Args: usage(0, -1),
		RunE: func(c *cobra.Command, args []string) error { return cmd.run(c.Context(), args) },
	}
	cmd.fromStore.flags(c)
	f := c.Flags()
	cmd.holding.flags(f)
	f.BoolVar(&cmd.store.Amend, "amend", false, "Go from a local revision to one of the store")
	f.BoolVar(&cmd.list, "list", false, "List the refreshes that there are, and do nothing")
	f.BoolVar(&cmd.times, "time", false, "Show when snaps are refreshed by themselves, and do nothing")
	f.BoolVar(&cmd.dryRun, "dry-run", false, "Show what would happen to running services, and do nothing")
	cmd.flag(c)
	cmd.formatFlag(c)
	return c
}

func (cmd *refreshCommand) run(ctx context.Context, names []string) error {
	if cmd.asked() {
		if cmd.list || cmd.times || cmd.dryRun {
			return usageErrorf("cannot hold refreshes together with --list, --time or --dry-run")
		}
		return cmd.changeHold(ctx, names)
	}
	if (cmd.list || cmd.times) && (len(names) > 0 || cmd.dryRun || cmd.list && cmd.times) {
		return usageErrorf("--list and --time take no names and no other action")
	}
	if err := cmd.settle(names); err != nil {
		return err
	}
	if len(names) != 1 && (cmd.store.Channel != "" || cmd.store.Amend) {
		return usageErrorf("cannot use a channel or --amend for several snaps: want one name")
	}
	switch {
	case cmd.list:
		return cmd.listUpdates(ctx)
	case cmd.times:
		return cmd.showTimes(ctx)
	case cmd.dryRun:
		plans, err := cmd.client.PlanRefresh(ctx, names, cmd.store, cmd.options)
		if err != nil {
			return cmd.settled(err)
		}
		if len(plans) == 0 && cmd.format != "json" {
			fmt.Fprintln(cmd.err, "Every snap is up to date.")
			return nil
		}
		return cmd.showPlans(cmd.output, plans)
	}
	id, err := cmd.client.Refresh(ctx, names, cmd.store, cmd.options)
	if err != nil {
		return cmd.settled(err)
	}
	ch, err := cmd.wait(ctx, cmd.waiting, id)
	if err == nil && len(ch.SnapNames()) == 0 {
		fmt.Fprintln(cmd.err, "Every snap is up to date.")
		return nil
	}
	return cmd.report(ctx, ch, err, "refreshed")
}

// settled turns "there is nothing to do" into success.
func (cmd *refreshCommand) settled(err error) error {
	if client.IsKind(err, client.KindNoUpdate) {
		fmt.Fprintln(cmd.err, err)
		return nil
	}
	return err
}

func (cmd *refreshCommand) listUpdates(ctx context.Context) error {
	list, err := cmd.client.Updates(ctx)
	if err != nil {
		return err
	}
	if done, err := cmd.json(cmd.app, list); done || err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(cmd.err, "Every snap is up to date.")
		return nil
	}
	t := newTable("Name", "Version", "Rev", "Size", "Publisher", "Notes", "Services")
	for i := range list {
		u := &list[i]
		services := "cannot be refreshed: " + u.PlanError
		if u.PlanError == "" && u.Plan != nil {
			services = disturbs(u.Plan)
		}
		t.add(u.Name, printable(u.Version), u.Revision, bytesize(u.DownloadSize), publisher(u.Publisher),
			"", printable(services))
	}
	t.write(cmd.out)
	return nil
}

// disturbs says in a few words what a plan does to services that run.
func disturbs(p *client.Plan) string {
	counts := map[string]int{}
	for _, s := range p.Services {
		counts[s.Action]++
	}
	out := ""
	for _, w := range []struct{ action, one, many string }{
		{"restart", "1 restarts", "%d restart"},
		{"signal", "1 is signalled", "%d are signalled"},
		{"signal-start", "1 is signalled and starts anew", "%d are signalled and start anew"},
		{"stop", "1 stops", "%d stop"},
		{"start", "1 starts", "%d start"},
		{"keep", "1 keeps running", "%d keep running"},
	} {
		n := counts[w.action]
		if n == 0 {
			continue
		}
		if out != "" {
			out += ", "
		}
		if n == 1 {
			out += w.one
		} else {
			out += fmt.Sprintf(w.many, n)
		}
	}
	if out == "" {
		return "none disturbed"
	}
	return out
}

func (cmd *refreshCommand) showTimes(ctx context.Context) error {
	info, err := cmd.client.SystemInfo(ctx)
	if err != nil {
		return err
	}
	if done, err := cmd.json(cmd.app, info.Refresh); done || err != nil {
		return err
	}
	cmd.say("timer: %s", orNA(info.Refresh.Timer))
	cmd.say("last: %s", orNA(info.Refresh.Last))
	if info.Refresh.Hold != "" {
		hold := printable(info.Refresh.Hold)
		if t, err := time.Parse(time.RFC3339, hold); err == nil {
			hold = cmd.held(t)
		}
		cmd.say("hold: %s", hold)
	}
	cmd.say("next: %s", orNA(info.Refresh.Next))
	return nil
}

func orNA(s string) string {
	if s == "" {
		return "n/a"
	}
	return printable(s)
}
