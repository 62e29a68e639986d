// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"endured/overlord/configstate"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// Control is what a "control-services" task does to the services of one snap.
type Control = snapstate.Control

// doControl starts, stops or restarts services because an operator asked.
// "snap stop" is remembered, so that a refresh does not start the service.
func (m *Manager) doControl(ctx context.Context, t *state.Task) (state.Commit, error) {
	var c Control
	if err := t.Get(snapstate.ControlKey, &c); err != nil {
		return nil, fmt.Errorf("cannot read what to do: %w", err)
	}
	rec, err := m.Snaps.Lookup(c.Snap)
	if err != nil {
		return nil, err
	}
	plan, info, err := m.PlanControl(ctx, rec, &c)
	if err != nil {
		return nil, err
	}
	if err := m.enablement(ctx, info, &c); err != nil {
		return nil, err
	}
	steps := plan.Services
	if c.Event == lifecycle.Stop {
		steps = slices.Clone(steps)
		slices.Reverse(steps)
	}
	for _, s := range steps {
		if err := m.because(rec, info, s, &c, t.ChangeID(), func() error { return m.control(ctx, info, s, &c) }); err != nil {
			return nil, err
		}
	}
	for _, g := range plan.Generations {
		if g.Action == lifecycle.DoStop {
			// the stop of its service takes a scope along
			done := m.Asker.Bound(ctx, g)
			err := m.Systemd.Run(ctx, "stop", g.Unit, "replace")
			done()
			if err != nil && !errors.Is(err, systemd.ErrNoSuchUnit) {
				return nil, fmt.Errorf("cannot stop %s: %w", g.Unit, err)
			}
		}
	}
	if err := m.unpin(ctx, info); err != nil {
		return nil, err
	}
	obs, err := m.Snaps.Observe(ctx, rec, info)
	if err != nil {
		return nil, err
	}
	return func(tx *state.Tx) error { return remembered(tx, &c, plan, obs) }, nil
}

// PlanControl decides what the request does; it changes nothing.
func (m *Manager) PlanControl(ctx context.Context, rec *snapstate.Record, c *Control) (*lifecycle.Plan, *snap.Info, error) {
	setup := &snapstate.Setup{Snap: rec.Name, From: rec.Current, To: rec.Current}
	_, info, others, err := m.Snaps.Sides(setup)
	if err != nil {
		return nil, nil, err
	}
	obs, err := m.Snaps.Observe(ctx, rec, info)
	if err != nil {
		return nil, nil, err
	}
	plan, err := lifecycle.Decide(lifecycle.Input{Event: c.Event, Old: info, New: info, Started: others, Observed: obs, Only: c.Apps,
		StopTimeoutMax: configstate.StopTimeoutMax(m.State)})
	return plan, info, err
}

func remembered(tx *state.Tx, c *Control, plan *lifecycle.Plan, obs lifecycle.Observed) error {
	rec, err := snapstate.Get(tx, c.Snap)
	if err != nil {
		return err
	}
	for _, s := range plan.Services {
		at := slices.Index(rec.HandStopped, s.App)
		switch {
		case c.Event == lifecycle.Stop && at < 0:
			rec.HandStopped = append(rec.HandStopped, s.App)
		case c.Event != lifecycle.Stop && at >= 0 && s.Action != lifecycle.LeaveDown:
			rec.HandStopped = slices.Delete(rec.HandStopped, at, at+1)
		case c.Event == lifecycle.Start && at >= 0:
			rec.HandStopped = slices.Delete(rec.HandStopped, at, at+1)
		}
		delete(rec.Started, s.App)
		if svc := obs.Services[s.App]; svc.Running {
			if rec.Started == nil {
				rec.Started = map[string]snapstate.Started{}
			}
			rec.Started[s.App] = snapstate.Started{InvocationID: svc.InvocationID, Revision: svc.Revision}
		}
	}
	return snapstate.Put(tx, rec)
}

func (m *Manager) control(ctx context.Context, info *snap.Info, s lifecycle.Step, c *Control) error {
	app := info.Apps[s.App]
	if app == nil {
		return nil
	}
	if s.Activators == lifecycle.DoStop {
		for _, u := range snapstate.ActivatorUnits(app) {
			if err := m.run(ctx, "stop", u); err != nil {
				return err
			}
		}
		if err := m.offBus(ctx, app); err != nil {
			return err
		}
	}
	if s.Activators == lifecycle.DoStart {
		for _, u := range snapstate.ActivatorUnits(app) {
			if err := m.run(ctx, "start", u); err != nil {
				return err
			}
		}
		if err := m.onBus(ctx, app); err != nil {
			return err
		}
	}
	if ends := s.Action == lifecycle.DoStop || s.Action == lifecycle.DoRestart; ends && !s.SendSIGKILL && s.MainPID != 0 {
		// a stop job that timed out would disown what must not be killed
		if err := m.Asker.Ask(ctx, info.Name, s, app, s.Action == lifecycle.DoRestart); err != nil {
			return err
		}
	}
	switch s.Action {
	case lifecycle.DoStart:
		return m.run(ctx, "start", s.Unit)
	case lifecycle.DoStop:
		return m.run(ctx, "stop", s.Unit)
	case lifecycle.DoRestart:
		if c.Reload && app.ReloadCommand != "" {
			return m.run(ctx, "reload", s.Unit)
		}
		return m.run(ctx, "restart", s.Unit)
	}
	return nil
}

func (m *Manager) run(ctx context.Context, verb, unit string) error {
	if verb == "start" || verb == "restart" {
		if err := m.Systemd.ResetFailed(ctx, unit); err != nil {
			return err
		}
	}
	err := m.Systemd.Run(ctx, verb, unit, "replace")
	var job *systemd.JobError
	if errors.As(err, &job) && verb == "stop" {
		// a stop that ends badly, but ends, is a stop
		if sts, serr := m.Systemd.Status(ctx, unit); serr == nil && !snapstate.UnitRuns(sts[0]) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, unit, err)
	}
	return nil
}

func (m *Manager) enablement(ctx context.Context, info *snap.Info, c *Control) error {
	if !c.Enable && !c.Disable {
		return nil
	}
	set, err := wrappers.Units(info, m.Wrap)
	if err != nil {
		return err
	}
	var units []string
	for app, us := range set.Enable {
		if len(c.Apps) == 0 || slices.Contains(c.Apps, app) {
			units = append(units, us...)
		}
	}
	slices.Sort(units)
	verb := m.Systemd.Enable
	if c.Disable {
		verb = m.Systemd.Disable
	}
	changed, err := verb(ctx, units...)
	if err != nil {
		return fmt.Errorf("cannot change what starts at boot: %w", err)
	}
	if changed {
		return m.Systemd.Reload(ctx)
	}
	return nil
}

// unpin removes drop-ins that keep the stop side of an older revision for a
// process that is no longer there.
func (m *Manager) unpin(ctx context.Context, info *snap.Info) error {
	rec, err := m.Snaps.Lookup(info.Name)
	if err != nil {
		return err
	}
	removed := false
	for _, a := range info.Services() {
		pin := wrappers.PinPath(m.Dirs, a.Unit())
		if _, err := os.Stat(pin); err != nil {
			continue
		}
		sts, err := m.Systemd.Status(ctx, a.Unit())
		if err != nil {
			return err
		}
		if snapstate.UnitRuns(sts[0]) && m.Snaps.RevisionOf(rec, a.Name, sts[0]) != rec.Current {
			continue
		}
		if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the pin of %s: %w", a.Unit(), err)
		}
		os.Remove(filepath.Dir(pin)) // only when empty
		removed = true
	}
	if removed {
		return m.Systemd.Reload(ctx)
	}
	return nil
}
