// SPDX-License-Identifier: Apache-2.0

package ifacestate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"endured/interfaces/apparmor"
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
	errs = append(errs, wrappers.SweepContent(m.wrap))
	return errors.Join(errs...)
}

// apply does it for one snap and tells whether a unit changed. A snap that is
// being switched, be it by the task's own change, is left to that: afterwards
// its own update-peers comes, or the way back has made everything anew.
func (m *Manager) apply(ctx context.Context, t *state.Task, name string) (changed bool, err error) {
	leave, err := m.Snaps.Enter(ctx, name) // no switch begins in the meantime
	if err != nil {
		return false, err
	}
	defer leave()
	var rec *snapstate.Record
	busy := false
	err = m.State.View(func(tx *state.Tx) (err error) {
		busy = switching(tx, name)
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
		cost, err := m.profiles.Update(ctx, name)
		if err != nil {
			return false, err
		}
		if cost != (apparmor.Cost{}) {
			t.Log("Profiles of %s: %s", name, cost)
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

// switching tells whether a switch of the snap is between its beginning and its
// commit, or was there when an earlier daemon ended: the files of its units may
// be those of a revision that the record does not name as current.
func switching(tx *state.Tx, name string) bool {
	for _, c := range tx.Unready() {
		for _, t := range c.Tasks() {
			var of string
			if t.Kind() == "switch-snap" && t.Status().Running() && t.Get("snap", &of) == nil && of == name {
				return true
			}
		}
	}
	return false
}
