// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"fmt"
	"strings"

	"endured/interfaces"
	"endured/overlord/ifacestate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// Repository returns which plugs and slots there are and how they are connected.
func (m *Manager) Repository() (*interfaces.Repository, error) { return m.Plugs.Repository() }

// Connect connects a plug to a slot. A slot without a snap is the host's; one
// without a name is the only one that fits. What is connected already makes a
// change that is done.
func (m *Manager) Connect(_ context.Context, plug, slot interfaces.End) (string, error) {
	return m.connecting("connect-snap", func(tx *state.Tx, repo *interfaces.Repository) (string, *ifacestate.Request, error) {
		ref, _, err := repo.Connectable(plug, slot)
		if err != nil {
			return "", nil, err
		}
		summary := fmt.Sprintf("Connect %s to %s", ref.Plug, ref.Slot)
		if have, ok := repo.Lookup(ref); ok && !have.Undesired {
			return summary, nil, nil
		}
		if err := m.Plugs.CheckPlaces(repo, ref); err != nil {
			return "", nil, err
		}
		return summary, &ifacestate.Request{Refs: []interfaces.ConnRef{ref}}, nil
	})
}

// Disconnect takes a connection away, or all of a plug or slot where only one
// end is named. What was connected without being asked for stays away until it
// is connected again, or until forget has that forgotten.
func (m *Manager) Disconnect(_ context.Context, plug, slot interfaces.End, forget bool) (string, error) {
	return m.connecting("disconnect-snap", func(_ *state.Tx, repo *interfaces.Repository) (string, *ifacestate.Request, error) {
		refs, err := repo.Disconnectable(plug, slot, forget)
		if err != nil {
			return "", nil, err
		}
		var list []string
		for _, ref := range refs {
			list = append(list, ref.Plug.String()+" from "+ref.Slot.String())
		}
		return "Disconnect " + strings.Join(list, ", "), &ifacestate.Request{Refs: refs, Forget: forget}, nil
	})
}

// connecting makes a change of one task that changes connections. A request that
// is nil is a change that is done.
func (m *Manager) connecting(kind string, decide func(*state.Tx, *interfaces.Repository) (string, *ifacestate.Request, error)) (string, error) {
	var id string
	err := m.update(func(tx *state.Tx) error {
		repo, err := m.Plugs.RepositoryIn(tx)
		if err != nil {
			return err
		}
		summary, r, err := decide(tx, repo)
		if err != nil {
			return err
		}
		c := tx.NewChange(kind, summary)
		id = c.ID()
		if r == nil {
			c.SetDone()
			return c.Set("snap-names", []string{})
		}
		list := snapsOf(r.Refs)
		if err := m.hold(tx, c, list); err != nil {
			return err
		}
		t := tx.NewTask(strings.TrimSuffix(kind, "-snap"), summary)
		if err := ifacestate.SetRequest(t, r); err != nil {
			return err
		}
		c.AddTask(t)
		return names(c, list...)
	})
	if err != nil {
		return "", err
	}
	m.Runner.Ensure()
	return id, nil
}

// hold keeps other changes from the snaps while this one is not ready.
func (m *Manager) hold(tx *state.Tx, c *state.Change, list []string) error {
	if err := snapstate.CheckConflict(tx, c.ID(), list...); err != nil {
		return err
	}
	for _, n := range list {
		rec, err := snapstate.Get(tx, n)
		if err != nil {
			continue // it may be gone, and only its connection left
		}
		if err := snapstate.SetSetup(c, &snapstate.Setup{Snap: n, From: rec.Current, To: rec.Current}); err != nil {
			return err
		}
	}
	return nil
}

func snapsOf(refs []interfaces.ConnRef) []string {
	var out []string
	for _, ref := range refs {
		for _, n := range []string{ref.Plug.Snap, ref.Slot.Snap} {
			if !interfaces.IsSystem(n) {
				out = append(out, n)
			}
		}
	}
	return unique(out)
}
