// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"endured/overlord/lifecycle"
	"endured/overlord/servicestate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// Revert makes the named revision, or the one before the current, current again.
func (m *Manager) Revert(ctx context.Context, name string, rev snap.Revision) (string, error) {
	s, err := m.setupRevert(name, rev)
	if err != nil {
		return "", err
	}
	plan, err := m.plan(ctx, s)
	if err != nil {
		return "", err
	}
	return m.start("revert-snap", fmt.Sprintf("Revert %q snap", name), unchanged(name, s.From, true), forRevert(s, plan.Hooks))
}

// PlanRevert tells what Revert would do. It writes nothing.
func (m *Manager) PlanRevert(ctx context.Context, name string, rev snap.Revision) (*lifecycle.Plan, error) {
	s, err := m.setupRevert(name, rev)
	if err != nil {
		return nil, err
	}
	return m.plan(ctx, s)
}

func (m *Manager) setupRevert(name string, rev snap.Revision) (*snapstate.Setup, error) {
	rec, err := m.active("revert", name)
	if err != nil {
		return nil, err
	}
	switch {
	case rev.Unset():
		if rev = rec.Previous(); rev.Unset() {
			return nil, fmt.Errorf("cannot revert %q: no revision to revert to", name)
		}
	case rev == rec.Current:
		return nil, fmt.Errorf("cannot revert %q: already on requested revision", name)
	case rec.Rev(rev) == nil:
		return nil, fmt.Errorf("cannot find revision %s for snap %q", rev, name)
	}
	return &snapstate.Setup{Snap: name, Event: lifecycle.Revert, From: rec.Current, To: rev}, nil
}

// Enable makes a disabled snap available again.
func (m *Manager) Enable(ctx context.Context, name string) (string, error) {
	if err := m.idle(name); err != nil {
		return "", err
	}
	rec, err := m.Installed.Lookup(name)
	if err != nil {
		return "", err
	}
	if rec.Active {
		return "", fmt.Errorf("cannot enable %q: snap %q already enabled", name, name)
	}
	if rec.Erased {
		return "", fmt.Errorf("cannot enable %q: its removal has begun; remove it again", name)
	}
	s := &snapstate.Setup{Snap: name, Event: lifecycle.Enable, To: rec.Current}
	return m.start("enable-snap", fmt.Sprintf("Enable %q snap", name), unchanged(name, rec.Current, false), forEnable(s))
}

// Disable stops a snap's services and makes it unavailable.
func (m *Manager) Disable(ctx context.Context, name string) (string, error) {
	if err := m.idle(name); err != nil {
		return "", err
	}
	rec, err := m.Installed.Lookup(name)
	if err != nil {
		return "", err
	}
	if !rec.Active {
		return "", fmt.Errorf("cannot disable %q: snap %q already disabled", name, name)
	}
	s := &snapstate.Setup{Snap: name, Event: lifecycle.Disable, From: rec.Current}
	if _, err := m.plan(ctx, s); err != nil {
		return "", err
	}
	return m.start("disable-snap", fmt.Sprintf("Disable %q snap", name), unchanged(name, rec.Current, true), forDisable(s, nil))
}

// Remove removes snaps, each in a lane of its own, or one revision of one.
func (m *Manager) Remove(ctx context.Context, list []string, o RemoveOptions) (string, error) {
	list = unique(list)
	var rs []*recipe
	var checks []func(tx *state.Tx) error
	for _, name := range list {
		r, err := m.removal(ctx, name, o)
		if err != nil {
			return "", err
		}
		rs = append(rs, r)
		checks = append(checks, unchanged(name, r.setup.From, r.active))
	}
	again := func(tx *state.Tx) error {
		for _, check := range checks {
			if err := check(tx); err != nil {
				return err
			}
		}
		return nil
	}
	summary := fmt.Sprintf("Remove %q snap", list[0])
	if len(list) > 1 {
		summary = fmt.Sprintf("Remove snaps %s", quoted(list))
	} else if !o.Revision.Unset() {
		summary = fmt.Sprintf("Remove revision %s of %q snap", o.Revision, list[0])
	}
	return m.start("remove-snap", summary, again, rs...)
}

// unique drops names that came before: two recipes for one snap would run side
// by side.
func unique(list []string) []string {
	var out []string
	for _, n := range list {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func quoted(list []string) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(words, ", ")
}

func (m *Manager) removal(ctx context.Context, name string, o RemoveOptions) (*recipe, error) {
	if err := m.idle(name); err != nil {
		return nil, err
	}
	rec, err := m.Installed.Lookup(name)
	if err != nil {
		return nil, err
	}
	if !o.Revision.Unset() {
		if rec.Rev(o.Revision) == nil {
			return nil, &snapstate.NotInstalledError{Snap: name, Revision: o.Revision}
		}
		if rec.Current == o.Revision {
			return nil, fmt.Errorf("cannot remove active revision %s of snap %q", o.Revision, name)
		}
		r := &recipe{active: rec.Active, setup: &snapstate.Setup{Snap: name, Event: lifecycle.Remove, From: rec.Current, To: rec.Current, Only: o.Revision}}
		r.add("discard-revisions", "Remove revision %s of snap %q", o.Revision, name)
		return r, nil
	}
	s := &snapstate.Setup{Snap: name, Event: lifecycle.Remove, From: rec.Current, Terminate: o.Terminate}
	// running apps are a reason to refuse before anything is disturbed
	plan, err := m.plan(ctx, s)
	if err != nil {
		return nil, err
	}
	return forRemove(s, rec.Active, o.Purge, plan.Hooks), nil
}

// PlanRemove tells what Remove would do. It writes nothing.
func (m *Manager) PlanRemove(ctx context.Context, list []string, o RemoveOptions) ([]*lifecycle.Plan, error) {
	var plans []*lifecycle.Plan
	for _, name := range unique(list) {
		r, err := m.removal(ctx, name, o)
		if err != nil {
			return nil, err
		}
		if !o.Revision.Unset() {
			plans = append(plans, &lifecycle.Plan{Event: lifecycle.Remove, Snap: name, From: o.Revision})
			continue
		}
		p, err := m.plan(ctx, r.setup)
		if err != nil {
			return nil, err
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// Services starts, stops or restarts services; all snaps named in one request
// are one change.
func (m *Manager) Services(ctx context.Context, r ServicesRequest) (string, error) {
	controls, err := m.controls(r)
	if err != nil {
		return "", err
	}
	var id string
	err = m.update(func(tx *state.Tx) error {
		c := tx.NewChange("service-control", fmt.Sprintf("Running service command %q for services %s", string(r.Event), quoted(r.Names)))
		var list []string
		for i, ctl := range controls {
			if err := snapstate.CheckConflict(tx, c.ID(), ctl.Snap); err != nil && !m.hangs(tx, err, r.Event) {
				return err
			}
			s := &snapstate.Setup{Snap: ctl.Snap, Event: r.Event}
			if err := snapstate.SetSetup(c, s); err != nil {
				return err
			}
			t, err := snapstate.ControlTask(tx, ctl)
			if err != nil {
				return err
			}
			c.AddChain(i+1, t)
			list = append(list, ctl.Snap)
		}
		id = c.ID()
		return names(c, list...)
	})
	if err != nil {
		return "", err
	}
	m.Runner.Ensure()
	return id, nil
}

// hangs tells whether a stop may go on beside the change that stands in its way:
// once the switch of that one has let starts go, it waits for them, and a start
// that does not end is what an operator wants to stop.
func (m *Manager) hangs(tx *state.Tx, err error, e lifecycle.Event) bool {
	var conflict *snapstate.ConflictError
	if e != lifecycle.Stop || !errors.As(err, &conflict) {
		return false
	}
	if _, err := os.Lstat(m.Dirs.SwitchMark(conflict.Snap)); err == nil {
		return false
	}
	for _, t := range tx.Change(conflict.ChangeID).Tasks() {
		if t.Kind() == "switch-snap" && t.Status() == state.Doing {
			return true
		}
	}
	return false
}

// controls turns "snap" and "snap.app" into what to do per snap.
func (m *Manager) controls(r ServicesRequest) ([]*servicestate.Control, error) {
	by := map[string]*servicestate.Control{}
	var out []*servicestate.Control
	for _, n := range r.Names {
		name, app, one := strings.Cut(n, ".")
		rec, err := m.active(string(r.Event), name)
		if err != nil {
			return nil, err
		}
		info, err := m.Installed.Info(name, rec.Rev(rec.Current))
		if err != nil {
			return nil, err
		}
		if one {
			if a := info.Apps[app]; a == nil || !a.IsService() {
				return nil, &snapstate.AppNotFoundError{Snap: name, App: app}
			}
		} else if len(info.Services()) == 0 {
			return nil, fmt.Errorf("snap %q has no services", name)
		}
		c := by[name]
		if c == nil {
			c = &servicestate.Control{Snap: name, Event: r.Event, Enable: r.Enable, Disable: r.Disable, Reload: r.Reload}
			by[name] = c
			out = append(out, c)
			if one {
				c.Apps = []string{app}
			}
			continue
		}
		switch {
		case !one:
			c.Apps = nil
		case len(c.Apps) > 0 && !slices.Contains(c.Apps, app):
			c.Apps = append(c.Apps, app)
		}
	}
	return out, nil
}

// Snaps lists installed snaps: current revisions, or all of them; of the named
// ones, or of every one.
func (m *Manager) Snaps(ctx context.Context, list []string, all bool) ([]SnapView, error) {
	var recs []*snapstate.Record
	err := m.State.View(func(tx *state.Tx) (err error) {
		recs, err = snapstate.All(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []SnapView
	for _, r := range recs {
		if len(list) > 0 && !slices.Contains(list, r.Name) {
			continue
		}
		for i := range r.Sequence {
			e := &r.Sequence[i]
			if !all && e.Revision != r.Current {
				continue
			}
			info, err := m.Installed.Info(r.Name, e)
			if err != nil {
				// one that is not understood any more must not hide the others
				m.Log.Warn("cannot describe a snap", "err", err)
				info = &snap.Info{Name: r.Name, Version: "broken", Type: "app", Revision: e.Revision}
			}
			out = append(out, SnapView{Record: *r, Rev: *e, Info: info, Current: r.Active && e.Revision == r.Current})
		}
	}
	return out, nil
}
