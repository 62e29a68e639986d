// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// Watch tells that units may have changed. Close must be called.
type Watch struct {
	m     *Manager
	paths map[dbus.ObjectPath]bool // empty: any unit
	c     chan struct{}
}

// Watch watches the named units, or all of them if none is named. What
// changed is to be read with Status.
func (m *Manager) Watch(units ...string) *Watch {
	w := &Watch{m: m, paths: map[dbus.ObjectPath]bool{}, c: make(chan struct{}, 1)}
	for _, u := range units {
		w.paths[unitPath(u)] = true
	}
	m.mu.Lock()
	m.watches[w] = struct{}{}
	m.mu.Unlock()
	return w
}

// C gets a value after a change; several changes may become one value. A
// reconnect counts as a change.
func (w *Watch) C() <-chan struct{} { return w.c }

// Close ends the watch. C is not closed.
func (w *Watch) Close() {
	w.m.mu.Lock()
	delete(w.m.watches, w)
	w.m.mu.Unlock()
}

func (w *Watch) notify() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

func (m *Manager) notifyLocked(p dbus.ObjectPath) {
	for w := range m.watches {
		if len(w.paths) == 0 || w.paths[p] {
			w.notify()
		}
	}
}

func (m *Manager) notifyAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.watches {
		w.notify()
	}
}

// Settle waits until nothing is in progress in a unit: it has no running job
// and is not activating, deactivating or reloading; then returns its status.
//
// A waiting job counts as progress unless allowWaiting, which is for a unit
// whose starts are held: there a unit between an exit and its automatic
// restart has settled too. The error is that of ctx (wrapped), ErrClosed or
// *Error; the last status read comes with it.
func (m *Manager) Settle(ctx context.Context, unit string, allowWaiting bool) (UnitStatus, error) {
	w := m.Watch(unit)
	defer w.Close()
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		st, err := m.status(ctx, unit)
		if err != nil {
			return st, fmt.Errorf("cannot wait for %s to settle: %w", unit, err)
		}
		if st.settled(allowWaiting) {
			return st, nil
		}
		select {
		case <-w.c:
		case <-tick.C:
		case <-ctx.Done():
			return st, fmt.Errorf("cannot wait for %s to settle (%s, %s): %w", unit, st.ActiveState, st.SubState, ctx.Err())
		}
	}
}

// AtWork tells whether the one process of a oneshot runs. To systemd the unit is
// starting until that ends, but nothing of its start is left to be done, unless
// it has more than one ExecStart= or an ExecStartPost=.
func (st *UnitStatus) AtWork() bool {
	return st.Type == "oneshot" && st.ActiveState == "activating" && st.SubState == "start" && st.MainPID != 0
}

func (st *UnitStatus) settled(allowWaiting bool) bool {
	if st.JobID != 0 && (!allowWaiting || st.JobState != "waiting") {
		return false
	}
	switch st.ActiveState {
	case "activating":
		return allowWaiting && (st.SubState == "auto-restart" || st.SubState == "auto-restart-queued")
	case "deactivating", "reloading", "refreshing", "maintenance":
		return false
	}
	return true
}
