// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"fmt"
	"time"

	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// Hold keeps snaps from being refreshed with others until a time; one that is
// named is refreshed all the same. Without names it is the setting
// refresh.hold, which is for refreshes that begin by themselves.
func (m *Manager) Hold(ctx context.Context, names []string, h snapstate.Hold) (string, error) {
	until := "forever"
	if !h.Until.IsZero() {
		until = h.Until.UTC().Format(time.RFC3339)
	}
	if len(names) == 0 {
		return m.Configure(ctx, "system", map[string]any{"refresh.hold": until})
	}
	return m.setHold("hold-snap", fmt.Sprintf("Hold refreshes of %s until %s", quoted(names), until), names, &h)
}

// Unhold takes back what Hold did.
func (m *Manager) Unhold(ctx context.Context, names []string) (string, error) {
	if len(names) == 0 {
		return m.Configure(ctx, "system", map[string]any{"refresh.hold": nil})
	}
	return m.setHold("unhold-snap", fmt.Sprintf("Hold refreshes of %s no longer", quoted(names)), names, nil)
}

// setHold makes a change that is done.
func (m *Manager) setHold(kind, summary string, list []string, h *snapstate.Hold) (string, error) {
	var id string
	err := m.update(func(tx *state.Tx) error {
		for _, name := range list {
			rec, err := snapstate.Get(tx, name)
			if err != nil {
				return err
			}
			rec.Hold = h
			if err := snapstate.Put(tx, rec); err != nil {
				return err
			}
		}
		c := tx.NewChange(kind, summary)
		c.SetDone()
		id = c.ID()
		return names(c, list...)
	})
	return id, err
}
