// SPDX-License-Identifier: Apache-2.0

package configstate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"endured/dirs"
	"endured/osutil"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// Systemd is what this package needs of PID 1.
type Systemd interface {
	Reload(ctx context.Context) error
	Status(ctx context.Context, units ...string) ([]systemd.UnitStatus, error)
}

// Config is what a Manager is made of.
type Config struct {
	Dirs    dirs.Dirs
	State   *state.State
	Systemd Systemd
	Snaps   *snapstate.Manager
	Wrap    wrappers.Options
}

// Manager runs the task "configure-system".
type Manager struct{ Config }

// New makes a Manager and registers its task with the runner.
func New(c Config, run *state.Runner) *Manager {
	m := &Manager{Config: c}
	run.AddHandler("configure-system", m.doConfigure, m.undoConfigure)
	return m
}

const patchKey = "patch"

// SetPatch stores what the task changes.
func SetPatch(t *state.Task, p *Patch) error { return t.Set(patchKey, p) }

// doConfigure changes settings. A new ceiling on stops is told to systemd at
// once, for processes that run already, too; nothing is restarted.
func (m *Manager) doConfigure(ctx context.Context, t *state.Task) (state.Commit, error) {
	var p Patch
	if err := t.Get(patchKey, &p); err != nil {
		return nil, fmt.Errorf("cannot read what to set: %w", err)
	}
	if p.Bounds() {
		s, err := read(m.State)
		if err != nil {
			return nil, err
		}
		before := s.ceiling()
		p.apply(s)
		if err := m.bound(ctx, s.ceiling()); err != nil {
			return nil, errors.Join(err, m.bound(context.WithoutCancel(ctx), before))
		}
	}
	return func(tx *state.Tx) error {
		s, err := load(tx)
		if err != nil {
			return err
		}
		if err := tx.Task(t.ID()).SetUndo(p.inverse(s)); err != nil {
			return err
		}
		p.apply(s)
		return tx.Set(settingsKey, s)
	}, nil
}

// undoConfigure returns to what was set before. The task may have been aborted
// between its act and its commit: then that is what is set still.
func (m *Manager) undoConfigure(ctx context.Context, t *state.Task) (state.Commit, error) {
	var p, back Patch
	if err := t.Get(patchKey, &p); err != nil {
		return nil, fmt.Errorf("cannot read what was set: %w", err)
	}
	if err := t.Undo(&back); err != nil && !errors.Is(err, state.ErrNoState) {
		return nil, fmt.Errorf("cannot read what was set before: %w", err)
	}
	if p.Bounds() {
		s, err := read(m.State)
		if err != nil {
			return nil, err
		}
		back.apply(s)
		if err := m.bound(ctx, s.ceiling()); err != nil {
			return nil, err
		}
	}
	return func(tx *state.Tx) error {
		s, err := load(tx)
		if err != nil {
			return err
		}
		back.apply(s)
		return tx.Set(settingsKey, s)
	}, nil
}

// bound writes the units of all active snaps under a ceiling on their stops.
func (m *Manager) bound(ctx context.Context, ceiling time.Duration) error {
	var recs []*snapstate.Record
	err := m.State.View(func(tx *state.Tx) (err error) {
		recs, err = snapstate.All(tx)
		return err
	})
	if err != nil {
		return err
	}
	o := m.Wrap
	o.StopTimeoutMax = func() time.Duration { return ceiling }
	reload := false
	var units []string
	for _, r := range recs {
		e := r.Rev(r.Current)
		if !r.Active || e == nil {
			continue
		}
		info, err := m.Snaps.Info(r.Name, e)
		if err != nil {
			return err
		}
		for _, a := range info.Services() {
			units = append(units, a.Unit())
		}
		changed, err := m.write(ctx, r, info, o)
		reload = reload || changed
		if err != nil {
			return err
		}
	}
	if !reload {
		// an earlier run may have died between writing and reloading
		if reload, err = m.stale(ctx, units); err != nil || !reload {
			return err
		}
	}
	if err := m.Systemd.Reload(ctx); err != nil {
		return fmt.Errorf("cannot make systemd read the new bounds: %w", err)
	}
	return nil
}

func (m *Manager) stale(ctx context.Context, units []string) (bool, error) {
	if len(units) == 0 {
		return false, nil
	}
	sts, err := m.Systemd.Status(ctx, units...)
	return slices.ContainsFunc(sts, func(st systemd.UnitStatus) bool { return st.NeedDaemonReload }), err
}

func (m *Manager) write(ctx context.Context, r *snapstate.Record, info *snap.Info, o wrappers.Options) (changed bool, err error) {
	set, err := wrappers.Units(info, o)
	if err != nil {
		return false, err
	}
	written, err := wrappers.Write(set.Files, o)
	changed = len(written) > 0
	if err != nil {
		return changed, err
	}
	for _, a := range info.Services() {
		ch, err := m.pin(ctx, r, info, a, o)
		changed = changed || ch
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// pin writes the pin of a service anew, where it has one.
func (m *Manager) pin(ctx context.Context, r *snapstate.Record, info *snap.Info, a *snap.App, o wrappers.Options) (changed bool, err error) {
	path := wrappers.PinPath(m.Dirs, a.Unit())
	have, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read the pin of %s: %w", a.Unit(), err)
	}
	sts, err := m.Systemd.Status(ctx, a.Unit())
	if err != nil {
		return false, err
	}
	e := r.Rev(m.Snaps.RevisionOf(r, a.Name, sts[0]))
	if e == nil || e.Revision == info.Revision {
		return false, nil
	}
	started, err := m.Snaps.Info(r.Name, e)
	if err != nil {
		return false, err
	}
	want, needed, err := wrappers.Pin(started, info, a.Name, o)
	if err != nil || !needed || string(want) == string(have) {
		return false, err
	}
	if err := osutil.WriteFile(path, want, 0o644); err != nil {
		return false, fmt.Errorf("cannot pin %s: %w", a.Unit(), err)
	}
	return true, nil
}
