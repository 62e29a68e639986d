// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newEnableCommand(a *app) *cobra.Command {
	return a.switchCommand("enable", "Make a disabled snap available again",
		"Make a disabled snap available again and start its services, but for those\nthat were stopped by 'snap stop --disable'.", a.client.Enable)
}

func newDisableCommand(a *app) *cobra.Command {
	return a.switchCommand("disable", "Stop a snap and make it unavailable",
		"End all processes of a snap and take its services and commands away. Its data\nand its revisions stay; 'snap enable' brings it back.", a.client.Disable)
}

// switchCommand is enable or disable: begin starts the change.
func (a *app) switchCommand(verb, short, text string, begin func(context.Context, string) (string, error)) *cobra.Command {
	var w waiting
	c := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Long:  long(text, exitConflict),
		Args:  usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := begin(c.Context(), args[0])
			if err != nil {
				return err
			}
			if _, err := a.wait(c.Context(), w, id); err != nil {
				return done(err)
			}
			a.say("%s %sd", args[0], verb)
			return nil
		},
	}
	w.flag(c)
	return c
}
