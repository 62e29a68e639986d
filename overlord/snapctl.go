// SPDX-License-Identifier: Apache-2.0

package overlord

import (
	"context"
	"errors"
	"fmt"

	"endured/interfaces/apparmor"
	"endured/overlord/hookstate"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// Identify finds out which snap a process belongs to, see hookstate.
func (o *Overlord) Identify(pid int) (*hookstate.Caller, error) { return o.hooks.Identify(pid) }

// Confined returns the snap whose program a process is, if that is confined
// strictly, else "". What counts is the unit that it is in and the AppArmor
// label that it carries: whichever tells of a snap.
func (o *Overlord) Confined(pid int) (string, error) {
	who, err := o.hooks.Identify(pid)
	var stranger *hookstate.StrangerError
	switch {
	case errors.As(err, &stranger):
		who = &hookstate.Caller{}
	case err != nil:
		return "", err
	}
	label := hookstate.LabelOf(pid)
	if name, _, _, ok := apparmor.ParseLabel(label); ok {
		who.Snap = name
	}
	if who.Snap == "" {
		return "", nil
	}
	confined, err := o.confine.Confined(who.Snap, label)
	if err != nil || !confined {
		return "", err
	}
	return who.Snap, nil
}

// Snapctl carries out what a program of a snap asks for.
func (o *Overlord) Snapctl(ctx context.Context, who *hookstate.Caller, args []string) (*hookstate.Answer, error) {
	return o.hooks.Snapctl(ctx, who, args, ownServices{o}, o.plugs)
}

// ownServices are a snap's services as its own programs may see and control them.
type ownServices struct{ o *Overlord }

func (s ownServices) List(ctx context.Context, snapName string) ([]hookstate.Service, error) {
	views, err := s.o.ServiceViews(ctx, []string{snapName})
	if err != nil {
		return nil, err
	}
	var out []hookstate.Service
	for _, v := range views {
		notes := ""
		for _, a := range v.Activators {
			notes = a.Type + "-activated"
		}
		out = append(out, hookstate.Service{App: v.App, Enabled: v.Enabled, Active: v.Active, Notes: notes})
	}
	return out, nil
}

func (s ownServices) Control(ctx context.Context, c *snapstate.Control) error {
	names := []string{c.Snap}
	if len(c.Apps) > 0 {
		names = nil
		for _, a := range c.Apps {
			names = append(names, c.Snap+"."+a)
		}
	}
	id, err := s.o.Services(ctx, recipes.ServicesRequest{Event: c.Event, Names: names, Enable: c.Enable, Disable: c.Disable, Reload: c.Reload})
	if err != nil {
		return err
	}
	if err := s.o.state.WaitChange(ctx, id); err != nil {
		return fmt.Errorf("cannot wait for change %s: %w", id, err)
	}
	return s.o.state.View(func(tx *state.Tx) error {
		if c := tx.Change(id); c != nil {
			return c.Err()
		}
		return nil
	})
}
