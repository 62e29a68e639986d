// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

func newRevertCommand(a *app) *cobra.Command {
	var (
		w        waiting
		revision string
		dryRun   bool
		o        output
	)
	c := &cobra.Command{
		Use:   "revert NAME",
		Short: "Go back to an earlier revision of a snap",
		Long: long(`
Make the revision before the current one, or the one that --revision names,
current again. Its data comes back as it was when it was left; what the current
revision has written since stays with that revision. Processes are treated as
in a refresh. See 'snap list --all' for revisions.`, exitConflict),
		Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if dryRun {
				plans, err := a.client.PlanRevert(c.Context(), name, revision)
				if err != nil {
					return err
				}
				return a.showPlans(o, plans)
			}
			id, err := a.client.Revert(c.Context(), name, revision)
			if err != nil {
				return err
			}
			ch, err := a.wait(c.Context(), w, id)
			if err != nil {
				return done(err)
			}
			s, err := a.client.Snap(c.Context(), name)
			if err != nil {
				return err
			}
			a.say("%s reverted to %s", s.Name, printable(orDash(s.Version)))
			a.tellRecord(ch)
			return nil
		},
	}
	c.Flags().StringVar(&revision, "revision", "", "Revert to this revision")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "Show what would happen to running services, and do nothing")
	w.flag(c)
	o.formatFlag(c)
	return c
}
