// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newWarningsCommand(a *app) *cobra.Command {
	var all, absolute bool
	var o output
	c := &cobra.Command{
		Use:   "warnings",
		Short: "List warnings",
		Long:  long("List warnings that were not acknowledged yet. 'snap okay' acknowledges those\nthat were listed."),
		Args:  usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := a.client.Warnings(c.Context(), all)
			if err != nil {
				return err
			}
			if done, err := o.json(a, list); done || err != nil {
				return err
			}
			if len(list) == 0 {
				fmt.Fprintln(a.err, "No warnings.")
				return nil
			}
			last := time.Time{}
			for i, w := range list {
				if i > 0 {
					fmt.Fprintln(a.out, "---")
				}
				message := printable(strings.ReplaceAll(strings.TrimSpace(w.Message), "\n", "\x00"))
				a.say("last-occurrence:  %s\nwarning: |\n  %s",
					a.when(w.LastAdded, absolute), message)
				if w.LastAdded.After(last) {
					last = w.LastAdded
				}
			}
			return a.setWarningsSeen(last)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "Show acknowledged warnings too")
	c.Flags().BoolVar(&absolute, "abs-time", false, absTimeHelp)
	o.formatFlag(c)
	return c
}

func newOkayCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "okay",
		Short: "Acknowledge warnings",
		Long:  long("Acknowledge the warnings that 'snap warnings' listed."),
		Args:  usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			seen := a.warningsSeen()
			if seen.IsZero() {
				return errors.New("cannot okay warnings that were not shown: see 'snap warnings' first")
			}
			return a.client.Okay(c.Context(), seen)
		},
	}
}
