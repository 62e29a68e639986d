// SPDX-License-Identifier: Apache-2.0

package main

import (
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
				id, err := a.client.Refresh(c.Context(), name)
				if err != nil {
					return err
				}
				ch, err := a.wait(c.Context(), w, id)
				if err == nil {
					err = a.printSnaps(c.Context(), ch.SnapNames(), "refreshed")
				}
				if done(err) != nil {
					return err
				}
			}
			return nil
		},
	}
	w.flag(c)
	return c
}
