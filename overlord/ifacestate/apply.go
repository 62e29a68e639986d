// SPDX-License-Identifier: Apache-2.0

package ifacestate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/wrappers"
)

// applyAll makes profiles and units of snaps what their connections are now.
// Processes that run go on: the kernel asks the new profiles at once, the
// directives of units come with the next start.
func (m *Manager) applyAll(ctx context.Context, t *state.Task, names []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	reload := false
	var errs []error
	for _, name := range names {
		changed, err := m.apply(ctx, t, name)
		reload = reload || changed
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot give snap %q what is connected: %w", name, err))
		}
	}
	if reload {
		if err := m.Systemd.Reload(ctx); err != nil {
			errs = append(errs, fmt.Errorf("cannot make systemd read units: %w", err))
		}
	}
	return errors.Join(errs...)
}

// apply does it for one snap and tells whether a unit changed. A snap that is in
// the middle of a change is left to that: its own update-peers comes later.
func (m *Manager) apply(ctx context.Context, t *state.Task, name string) (changed bool, err error) {
	var rec *snapstate.Record
	busy := false
	err = m.State.View(func(tx *state.Tx) (err error) {
		busy = switches(tx, t.ChangeID(), name)
		rec, err = snapstate.Get(tx, name)
		return err
	})
	var missing *snapstate.NotInstalledError
	if errors.As(err, &missing) {
		return false, nil
	}
	if err != nil || busy || !rec.Active {
		return false, err
	}
	info, err := m.Snaps.Info(name, rec.Rev(rec.Current))
	if err != nil {
		return false, err
	}
	if m.profiles != nil {
		if err := m.profiles.Update(ctx, name); err != nil {
			return false, err
		}
	}
	set, err := wrappers.Units(info, m.wrap)
	if err != nil {
		return false, err
	}
	written, err := wrappers.Write(set.Files, m.wrap)
	var units []string
	for _, p := range written {
		if strings.HasSuffix(p, ".service") && !wrappers.BusFile(p) {
			units = append(units, filepath.Base(p))
		}
	}
	if len(units) > 0 {
		t.Log("Takes effect in full at the next start of %s", strings.Join(units, ", "))
	}
	return len(written) > 0, err
}

// switches tells whether another change is about to make another revision of the
// snap current, or is at it.
func switches(tx *state.Tx, except, name string) bool {
	for _, c := range tx.Unready() {
		if c.ID() == except || snapstate.CheckConflict(tx, except, name) == nil {
			continue
		}
		for _, t := range c.Tasks() {
			var of string
			if t.Kind() == "switch-snap" && !t.Status().Ready() && t.Get("snap", &of) == nil && of == name {
				return true
			}
		}
	}
	return false
}
