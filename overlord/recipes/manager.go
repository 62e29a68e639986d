// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"fmt"
	"log/slog"

	"endured/dirs"
	"endured/overlord/hookstate"
	"endured/overlord/ifacestate"
	"endured/overlord/lifecycle"
	"endured/overlord/servicestate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/store"
)

// Config is what a Manager is made of.
type Config struct {
	Dirs      dirs.Dirs
	State     *state.State
	Runner    *state.Runner
	Installed *snapstate.Manager
	Store     store.Store
	Plugs     *ifacestate.Manager
	Running   *servicestate.Manager
	Log       *slog.Logger
}

// Manager makes changes.
type Manager struct{ Config }

// New makes a Manager.
func New(c Config) *Manager { return &Manager{Config: c} }

// recipe is the tasks of one change for one snap, in order.
type recipe struct {
	setup  *snapstate.Setup
	active bool // whether the snap is, at the beginning of a removal
	lane   int  // 0 is one of its own
	steps  []step
}

// step is a task to be: of a kind, or one that runs a hook.
type step struct {
	kind, summary string
	hook          *lifecycle.HookStep
	values        map[string]any // options that the hook sees, and that are set if it succeeds
}

func (r *recipe) add(kind, format string, args ...any) {
	r.steps = append(r.steps, step{kind: kind, summary: fmt.Sprintf(format, args...)})
}

// hooks adds those that belong to a moment.
func (r *recipe) hooks(all []lifecycle.HookStep, when lifecycle.Moment) {
	for _, h := range lifecycle.HooksAt(all, when) {
		r.steps = append(r.steps, step{hook: &h})
	}
}

func (st *step) task(tx *state.Tx, s *snapstate.Setup) (*state.Task, error) {
	if st.hook != nil {
		return hookstate.Task(tx, s, *st.hook, st.values)
	}
	return snapstate.TaskFor(tx, s, st.kind, st.summary)
}

// chain adds the recipe's tasks to the change, each waiting for the one before.
func (r *recipe) chain(tx *state.Tx, c *state.Change, lane int) error {
	if err := snapstate.SetSetup(c, r.setup); err != nil {
		return err
	}
	var tasks []*state.Task
	for n := range r.steps {
		s := &r.steps[n]
		t, err := s.task(tx, r.setup)
		if err != nil {
			return err
		}
		tasks = append(tasks, t)
	}
	c.AddChain(lane, tasks...)
	return nil
}

// names puts the snaps that a change is about into its data, as clients expect.
func names(c *state.Change, list ...string) error {
	if err := c.Set("snap-names", list); err != nil || len(list) != 1 {
		return err
	}
	return c.Set("snap-name", list[0])
}

// forInstall is the way of a local file: over an installed snap it is a
// refresh. Downloads take the place of prepare-snap; setup-profiles comes after
// mount-snap. A refresh that nobody asked for would run gate-auto-refresh first.
func forInstall(s *snapstate.Setup, shown string, hooks []lifecycle.HookStep) *recipe {
	r := &recipe{setup: s}
	r.add("prepare-snap", "Prepare snap %q (%s)", shown, s.To)
	return r.bring(true, hooks)
}

// forStore is the recipe for what the store offers.
func forStore(s *snapstate.Setup, hooks []lifecycle.HookStep) *recipe {
	r := &recipe{setup: s}
	if !s.Had {
		from := ""
		if s.Rev.Channel != "" {
			from = fmt.Sprintf(" from channel %q", s.Rev.Channel)
		}
		r.add("download-snap", "Download snap %q (%s)%s", s.Snap, s.To, from)
	}
	return r.bring(!s.Had, hooks)
}

func forSwitchChannel(s *snapstate.Setup) *recipe {
	r := &recipe{setup: s}
	r.add("switch-snap-channel", "Switch snap %q to channel %s", s.Snap, s.Channel)
	return r
}

// bring adds what comes once the file is there.
func (r *recipe) bring(mount bool, hooks []lifecycle.HookStep) *recipe {
	s := r.setup
	if mount {
		r.add("mount-snap", "Mount snap %q (%s)", s.Snap, s.To)
	}
	r.add("auto-connect", "Connect plugs and slots of snap %q", s.Snap)
	r.add("setup-profiles", "Set up security profiles of snap %q (%s)", s.Snap, s.To)
	r.hooks(hooks, lifecycle.Before)
	if s.From.Unset() {
		r.add("copy-snap-data", "Make data directories of snap %q", s.Snap)
	} else {
		r.add("copy-snap-data", "Copy snap %q data", s.Snap)
	}
	r.add("plan-services", "Plan what happens to services of snap %q", s.Snap)
	r.add("switch-snap", "Make snap %q (%s) available to the system", s.Snap, s.To)
	r.add("update-peers", "Update snaps connected to snap %q", s.Snap)
	r.hooks(hooks, lifecycle.After)
	r.add("discard-revisions", "Discard old revisions of snap %q", s.Snap)
	return r
}

func forRevert(s *snapstate.Setup, hooks []lifecycle.HookStep) *recipe {
	r := &recipe{setup: s}
	r.add("setup-profiles", "Set up security profiles of snap %q (%s)", s.Snap, s.To)
	r.add("plan-services", "Plan what happens to services of snap %q", s.Snap)
	r.add("switch-snap", "Make snap %q (%s) available to the system", s.Snap, s.To)
	r.add("update-peers", "Update snaps connected to snap %q", s.Snap)
	r.hooks(hooks, lifecycle.After)
	return r
}

func forEnable(s *snapstate.Setup) *recipe { return forRevert(s, nil) }

func forDisable(s *snapstate.Setup, hooks []lifecycle.HookStep) *recipe {
	r := &recipe{setup: s}
	r.hooks(hooks, lifecycle.Before)
	r.add("plan-services", "Plan what happens to services of snap %q", s.Snap)
	r.add("switch-snap", "Make snap %q (%s) unavailable to the system", s.Snap, s.From)
	if s.Event == lifecycle.Disable {
		r.add("update-peers", "Update snaps connected to snap %q", s.Snap)
	}
	return r
}

func forRemove(s *snapstate.Setup, active, purge bool, hooks []lifecycle.HookStep) *recipe {
	r := &recipe{setup: s}
	if active {
		r = forDisable(s, hooks)
	}
	r.active = active
	r.add("auto-disconnect", "Disconnect interfaces of snap %q", s.Snap)
	if !purge {
		r.add("save-snapshot", "Save data of snap %q in automatic snapshot", s.Snap)
	}
	r.add("discard-snap", "Remove snap %q from the system", s.Snap)
	return r
}

// start makes a change of the recipes, after checking that no other change
// works on their snaps, and sets the runner going. again, if set, runs in the
// same transaction and may still refuse.
func (m *Manager) start(kind, summary string, again func(tx *state.Tx) error, rs ...*recipe) (string, error) {
	var id string
	err := m.update(func(tx *state.Tx) error {
		var list []string
		for _, r := range rs {
			list = append(list, r.setup.Snap)
		}
		if err := snapstate.CheckConflict(tx, "", list...); err != nil {
			return err
		}
		if again != nil {
			if err := again(tx); err != nil {
				return err
			}
		}
		c := tx.NewChange(kind, summary)
		if len(rs) == 0 {
			c.SetDone()
		}
		for i, r := range rs {
			lane := r.lane
			if lane == 0 {
				lane = i + 1
			}
			if err := r.chain(tx, c, lane); err != nil {
				return err
			}
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

// idle refuses if a change works on one of the snaps. It is asked before what is installed is looked at: that is about to
// become something else, and a refusal because of it would mislead.
func (m *Manager) idle(names ...string) error {
	return m.afterReaping(func() error {
		return m.State.View(func(tx *state.Tx) error { return snapstate.CheckConflict(tx, "", names...) })
	})
}

// active returns the record of a snap that is installed and not disabled.
func (m *Manager) active(verb, name string) (*snapstate.Record, error) {
	if err := m.idle(name); err != nil {
		return nil, err
	}
	rec, err := m.Installed.Lookup(name)
	if err != nil {
		return nil, err
	}
	if !rec.Active {
		return nil, fmt.Errorf("cannot %s %q: snap %q is disabled; enable it first", verb, name, name)
	}
	return rec, nil
}

// unchanged refuses if the record's current revision is not what the recipe
// was made for.
func unchanged(name string, current snap.Revision, active bool) func(tx *state.Tx) error {
	return func(tx *state.Tx) error {
		rec, err := snapstate.Get(tx, name)
		if err != nil {
			return err
		}
		if rec.Current != current || rec.Active != active {
			return fmt.Errorf("cannot go on: snap %q changed in the meantime, try again", name)
		}
		return nil
	}
}

func (m *Manager) plan(ctx context.Context, s *snapstate.Setup) (*lifecycle.Plan, error) {
	i, err := m.Running.Intend(ctx, s)
	if err != nil {
		return nil, err
	}
	return i.Plan, nil
}
