// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"endured/client"
)

func newRemoveCommand(a *app) *cobra.Command {
	var (
		w      waiting
		o      client.RemoveOptions
		dryRun bool
		format output
	)
	c := &cobra.Command{
		Use:   "remove NAME...",
		Short: "Remove snaps",
		Long: long(`
Remove snaps with their data. All their processes are ended, whatever their
refresh-mode. A snapshot of the data is saved first, unless --purge is given.
A snap with running apps is not removed, unless --terminate is given.

With --revision only that revision is removed; it must not be the current one.`, exitConflict),
		Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.Revision != "" && len(args) > 1 {
				return usageErrorf("cannot use --revision for several snaps: want one name")
			}
			if dryRun {
				plans, err := a.client.PlanRemove(c.Context(), args, o)
				if err != nil {
					return err
				}
				return a.showPlans(format, plans)
			}
			return a.remove(c.Context(), w, args, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Revision, "revision", "", "Remove only this revision")
	f.BoolVar(&o.Purge, "purge", false, "Save no snapshot of the data")
	f.BoolVar(&o.Terminate, "terminate", false, "End running apps instead of refusing")
	f.BoolVar(&dryRun, "dry-run", false, "Show what would happen to running services, and do nothing")
	w.flag(c)
	format.formatFlag(c)
	return c
}

func (a *app) remove(ctx context.Context, w waiting, names []string, o client.RemoveOptions) error {
	id, err := a.client.Remove(ctx, names, o)
	if client.IsKind(err, client.KindNotInstalled) && len(names) == 1 && o.Revision == "" {
		fmt.Fprintln(a.err, err) // what is wanted is so already
		return nil
	}
	if err != nil {
		return err
	}
	ch, err := a.wait(ctx, w, id)
	if err != nil {
		return done(err)
	}
	if o.Revision != "" {
		a.say("%s (revision %s) removed", names[0], o.Revision)
		return nil
	}
	if removed := ch.SnapNames(); len(removed) > 0 {
		names = removed
	}
	for _, n := range names {
		a.say("%s removed", n)
	}
	return nil
}
