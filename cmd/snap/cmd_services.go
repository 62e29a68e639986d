// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"endured/client"
)

func newServicesCommand(a *app) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "services [NAME...]",
		Short: "List the services of snaps",
		Long: long(`
List the services of all snaps, or of those named ("snap" or "snap.service").

Notes say what activates a service, and "runs REVISION" when its processes were
started from another revision than the current one. "N left of REVISION" are
processes that an earlier refresh left running, as its refresh-mode asked.
"sealed" are those that cannot write to their old data any more; "partly
sealed" and "not sealed" say in parentheses what they still can, and why.`),
		Args: usage(0, -1),
		RunE: func(c *cobra.Command, args []string) error {
			services, err := a.client.Services(c.Context(), args)
			if err != nil {
				return err
			}
			if done, err := o.json(a, services); done || err != nil {
				return err
			}
			if len(services) == 0 {
				fmt.Fprintln(a.err, "No snap has a service.")
				return nil
			}
			t := newTable("Service", "Startup", "Current", "Notes")
			for _, s := range services {
				startup, current := "disabled", "inactive"
				if s.Enabled {
					startup = "enabled"
				}
				if s.Active {
					current = "active"
				}
				t.add(s.Snap+"."+s.Name, startup, current, serviceNotes(&s))
			}
			t.write(a.out)
			return nil
		},
	}
	o.formatFlag(c)
	return c
}

func serviceNotes(s *client.AppInfo) string {
	var notes []string
	for _, act := range s.Activators {
		notes = append(notes, printable(act.Type)+"-activated")
	}
	slices.Sort(notes)
	notes = slices.Compact(notes)
	if s.RunningRevision != "" && s.CurrentRevision != "" && s.RunningRevision != s.CurrentRevision {
		notes = append(notes, "runs "+s.RunningRevision)
		if s.Seal != "" {
			notes = append(notes, sealNote(s.Seal, s.SealWhy))
		}
	}
	return strings.Join(append(notes, leftNotes(s.Generations)...), ",")
}

// sealNote says "sealed", or "partly sealed (devmode)".
func sealNote(word string, why []string) string {
	if len(why) == 0 {
		return printable(word)
	}
	return printable(fmt.Sprintf("%s (%s)", word, strings.Join(why, "; ")))
}

// leftNotes says "2 left of x1,sealed", for each revision once; what its scopes
// differ in is the worst of them.
func leftNotes(generations []client.Generation) []string {
	type left struct {
		n    int
		seal string
		why  []string
	}
	by := map[string]*left{}
	var revisions []string
	worst := []string{"", "sealed", "partly sealed", "not sealed"}
	for _, g := range generations {
		if g.Processes == 0 {
			continue
		}
		l := by[g.Revision]
		if l == nil {
			l = &left{}
			by[g.Revision] = l
			revisions = append(revisions, g.Revision)
		}
		l.n += g.Processes
		if slices.Index(worst, g.Seal) > slices.Index(worst, l.seal) {
			l.seal = g.Seal
		}
		for _, why := range g.SealWhy {
			if !slices.Contains(l.why, why) {
				l.why = append(l.why, why)
			}
		}
	}
	var notes []string
	for _, r := range revisions {
		notes = append(notes, fmt.Sprintf("%d left of %s", by[r].n, printable(r)))
		if by[r].seal != "" {
			notes = append(notes, sealNote(by[r].seal, by[r].why))
		}
	}
	return notes
}

func newStartCommand(a *app) *cobra.Command {
	r := &client.AppsRequest{Action: "start"}
	c := a.controlCommand(r, "Start services", "Start services of snaps, on the current revision.", "Started.")
	c.Flags().BoolVar(&r.Enable, "enable", false, "Also start the services at boot from now on")
	return c
}

func newStopCommand(a *app) *cobra.Command {
	r := &client.AppsRequest{Action: "stop"}
	c := a.controlCommand(r, "Stop services",
		"Stop services of snaps, with the processes that earlier refreshes left of them.\nThey stay down over a refresh, until 'snap start' or a boot; what only D-Bus\nstarts until 'snap start'.", "Stopped.")
	c.Flags().BoolVar(&r.Disable, "disable", false, "Also keep the services from starting at boot")
	return c
}

func newRestartCommand(a *app) *cobra.Command {
	r := &client.AppsRequest{Action: "restart"}
	c := a.controlCommand(r, "Restart services",
		"Restart services of snaps, on the current revision. refresh-mode does not matter\nhere: it is for refreshes.", "Restarted.")
	c.Flags().BoolVar(&r.Reload, "reload", false, "Reload those services that know how to")
	return c
}

func (a *app) controlCommand(r *client.AppsRequest, short, text, answer string) *cobra.Command {
	var w waiting
	c := &cobra.Command{
		Use:   r.Action + " SERVICE...",
		Short: short,
		Long:  long(text+"\nA service is named \"snap.service\"; \"snap\" means all of its services.", exitConflict),
		Args:  usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			r.Names = args
			return a.control(c.Context(), w, *r, answer)
		},
	}
	w.flag(c)
	return c
}

func (a *app) control(ctx context.Context, w waiting, r client.AppsRequest, answer string) error {
	id, err := a.client.ControlServices(ctx, r)
	if err != nil {
		return err
	}
	if _, err := a.wait(ctx, w, id); err != nil {
		return done(err)
	}
	fmt.Fprintln(a.out, answer)
	return nil
}
