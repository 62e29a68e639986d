// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"endured/client"
)

func newListCommand(a *app) *cobra.Command {
	var all bool
	var o output
	c := &cobra.Command{
		Use:   "list [NAME...]",
		Short: "List installed snaps",
		Long: long(`
List installed snaps, or those named. With --all also the revisions that are
not current.

Notes are: disabled (not the current revision, or switched off), devmode,
classic, jailmode, partly-confined (the kernel has no AppArmor, see
'snap warnings'), broken, and what the snap says of its health unless
it is okay: waiting, blocked or error.`),
		Args: usage(0, -1),
		RunE: func(c *cobra.Command, args []string) error {
			snaps, err := a.client.Snaps(c.Context(), args, all)
			if err != nil {
				return err
			}
			if len(snaps) == 0 && len(args) > 0 {
				return errors.New("none of these snaps is installed")
			}
			if done, err := o.json(a, snaps); done || err != nil {
				return err
			}
			if len(snaps) == 0 {
				fmt.Fprintln(a.err, "No snap is installed. 'snap find' shows what the store has, 'snap install' takes a name or a file.")
				return nil
			}
			t := newTable("Name", "Version", "Rev", "Tracking", "Publisher", "Notes")
			for _, s := range snaps {
				t.add(s.Name, printable(s.Version), s.Revision, s.TrackingChannel, publisher(s.Publisher), snapNotes(&s))
			}
			t.write(a.out)
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "Show all revisions")
	o.formatFlag(c)
	return c
}

func publisher(p *client.Publisher) string {
	if p == nil {
		return ""
	}
	mark := ""
	switch p.Validation {
	case "verified":
		mark = "**"
	case "starred":
		mark = "*"
	}
	return printable(p.Username) + mark
}

// unwell tells whether a snap says that something is to be done.
func unwell(h *client.Health) bool { return h != nil && h.Status != "okay" && h.Status != "unknown" }

func health(h *client.Health) string {
	if h == nil {
		return ""
	}
	return printable(h.Status)
}

func snapNotes(s *client.Snap) string {
	var notes []string
	for _, n := range []struct {
		set  bool
		note string
	}{
		{s.DevMode || s.Confinement == "devmode", "devmode"},
		{s.Classic || s.Confinement == "classic", "classic"},
		{s.JailMode, "jailmode"},
		{s.PartlyConfined, "partly-confined"},
		{s.Status != "active", "disabled"},
		{s.Broken != "", "broken"},
		{s.Hold != nil, "held"},
		{unwell(s.Health), health(s.Health)},
	} {
		if n.set {
			notes = append(notes, n.note)
		}
	}
	return strings.Join(notes, ",")
}
