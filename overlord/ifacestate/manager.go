// SPDX-License-Identifier: Apache-2.0

// Package ifacestate keeps which plugs are connected to which slots, and keeps
// profiles and units equal to it. The connections are in the state under
// "conns", in snapd's shape; everything else follows from them and from the
// installed revisions, and is made anew when asked for.
package ifacestate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"endured/interfaces"
	"endured/interfaces/apparmor"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/wrappers"
)

// Systemd is what this package needs of PID 1.
type Systemd interface {
	Reload(ctx context.Context) error
}

// Profiles confines the programs of snaps.
type Profiles interface {
	// Update makes the profiles of every installed revision of a snap what its
	// connections are now. Running processes are under them at once.
	Update(ctx context.Context, snapName string) (apparmor.Cost, error)
}

// Config is what a Manager is made of.
type Config struct {
	State      *state.State
	Snaps      *snapstate.Manager
	Systemd    Systemd
	Interfaces []interfaces.Interface
	Log        *slog.Logger
}

// Manager knows what is connected and runs the tasks that change it.
type Manager struct {
	Config
	profiles Profiles
	wrap     wrappers.Options

	mu sync.Mutex // held while units are written that are not the task's own snap's

	seen atomic.Pointer[seen]
}

// seen is what was connected in one version of the state.
type seen struct {
	version    int
	repository *interfaces.Repository
}

// New makes a Manager and registers its tasks with the runner.
func New(c Config, run *state.Runner) *Manager {
	m := &Manager{Config: c}
	run.AddHandler("connect", m.doConnect, m.undoConnect)
	run.AddHandler("disconnect", m.doDisconnect, m.undoConnect)
	run.AddHandler("auto-connect", m.doAutoConnect, m.undoAutoConnect)
	run.AddHandler("auto-disconnect", m.doAutoDisconnect, m.undoAutoDisconnect)
	run.AddHandler("update-peers", m.doUpdatePeers, m.doUpdatePeers)
	return m
}

// Confine has units and profiles follow connections. It is called once, before
// anything runs: what confines asks this Manager what is connected.
func (m *Manager) Confine(p Profiles, w wrappers.Options) { m.profiles, m.wrap = p, w }

const connsKey = "conns"

// conns reads the connections.
func conns(tx *state.Tx) (map[string]interfaces.ConnState, error) {
	out := map[string]interfaces.ConnState{}
	if err := tx.Get(connsKey, &out); err != nil && !errors.Is(err, state.ErrNoState) {
		return nil, fmt.Errorf("cannot read which plugs are connected: %w", err)
	}
	return out, nil
}

// Repository returns what is connected now. It is kept until the state changes:
// a switch asks several times, and reading 500 snaps takes 20 ms of its gap.
func (m *Manager) Repository() (*interfaces.Repository, error) {
	var r *interfaces.Repository
	err := m.State.View(func(tx *state.Tx) (err error) {
		if s := m.seen.Load(); s != nil && s.version == tx.Version() {
			r = s.repository
			return nil
		}
		if r, err = m.RepositoryIn(tx); err == nil {
			m.seen.Store(&seen{tx.Version(), r})
		}
		return err
	})
	return r, err
}

// RepositoryIn is Repository for a caller in a transaction.
func (m *Manager) RepositoryIn(tx *state.Tx) (*interfaces.Repository, error) {
	have, err := conns(tx)
	if err != nil {
		return nil, err
	}
	recs, err := snapstate.All(tx)
	if err != nil {
		return nil, err
	}
	var active []interfaces.Installed
	for _, rec := range recs {
		e := rec.Rev(rec.Current)
		if !rec.Active || e == nil {
			continue
		}
		info, err := m.Snaps.Info(rec.Name, e)
		if err != nil {
			// one that is not understood any more must not disconnect the others
			m.Log.Warn("cannot see the plugs of a snap", "err", err)
			continue
		}
		active = append(active, interfaces.Installed{Info: info, Publisher: e.Publisher})
	}
	return interfaces.New(m.Interfaces, active, have)
}

// SpecFor returns what is connected to an app, or to "hook.NAME", of a revision.
func (m *Manager) SpecFor(info *snap.Info, appOrHook string) (*interfaces.Spec, error) {
	r, err := m.Repository()
	if err != nil {
		return nil, err
	}
	return r.SpecFor(info, appOrHook)
}
