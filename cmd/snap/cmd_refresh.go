// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newRefreshCommand(a *app) *cobra.Command {
	var w waiting
	c := &cobra.Command{
		Use:   "refresh NAME...",
		Short: "Refresh snaps to their newest revision",
		Long: long(`
Refresh snaps from the store. This version has no store yet: a snap that came
from a file is refreshed by installing another file over it.`, exitConflict),
		Args: usage(1, -1, "<snap> (at least 1 argument)"),
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range args {
				if err := a.refresh(c.Context(), w, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	w.flag(c)
	return c
}

func (a *app) refresh(ctx context.Context, w waiting, name string) error {
	id, err := a.client.Refresh(ctx, name)
	if err != nil {
		return err
	}
	ch, err := a.wait(ctx, w, id)
	if err != nil {
		return done(err)
	}
	snaps, err := a.client.Snaps(ctx, ch.SnapNames(), false)
	if err != nil {
		return err
	}
	a.printSnaps(snaps, "refreshed")
	return nil
}
