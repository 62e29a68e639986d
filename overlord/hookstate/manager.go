// SPDX-License-Identifier: Apache-2.0

// Package hookstate runs the hooks of snaps, each as a unit of its own, and
// answers what programs of snaps ask through snapctl. What a hook asks for is
// kept with its task and counts when the task is done; if it fails, nothing was
// asked.
package hookstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"endured/dirs"
	"endured/overlord/configstate"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// Systemd is what this package needs of PID 1.
type Systemd interface {
	Start(ctx context.Context, unit, mode string) (*systemd.Job, error)
	Run(ctx context.Context, verb, unit, mode string) error
	ResetFailed(ctx context.Context, unit string) error
	Status(ctx context.Context, units ...string) ([]systemd.UnitStatus, error)
	WaitUnit(ctx context.Context, unit string, ok func(systemd.UnitStatus) bool) (systemd.UnitStatus, error)
}

// Journal is where the output of units is found.
type Journal interface {
	// Output returns the last lines, at most n, that a unit wrote under an
	// invocation.
	Output(ctx context.Context, unit, invocation string, n int) ([]string, error)
}

// Connections tells what is connected.
type Connections interface {
	// IsConnected tells whether the plug or slot of that name is connected.
	IsConnected(snapName, plugOrSlot string) (bool, error)
}

// Config is what a Manager is made of.
type Config struct {
	Dirs    dirs.Dirs
	State   *state.State
	Systemd Systemd
	Snaps   *snapstate.Manager
	Journal Journal // nil: hooks' output is not shown
	Log     *slog.Logger
	Wrap    wrappers.Options
	// CgroupRoot is where the unified cgroup hierarchy is mounted.
	CgroupRoot string
	// Timeout bounds a hook; 0 is lifecycle.HookTime. Inside a refresh it is
	// lifecycle.HeldHookTime, or what the switch has left.
	Timeout time.Duration
}

// Manager runs the task "run-hook" and the hooks of switches.
type Manager struct {
	Config

	kick    chan struct{}
	unwatch func()
	end     context.CancelFunc
	tidying sync.WaitGroup
}

// New makes a Manager and registers its task with the runner.
func New(c Config, run *state.Runner) *Manager {
	if c.Timeout == 0 {
		c.Timeout = lifecycle.HookTime
	}
	m := &Manager{Config: c, kick: make(chan struct{}, 1)}
	run.AddHandler("run-hook", m.doRunHook, m.undoRunHook)
	return m
}

// Start begins to take away units of hooks whose task has ended.
func (m *Manager) Start(ctx context.Context) {
	ctx, m.end = context.WithCancel(context.WithoutCancel(ctx))
	m.unwatch = m.State.AddChangeWatcher(func(string) { m.poke() })
	m.poke()
	m.tidying.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-m.kick:
				if err := m.tidy(ctx); err != nil && ctx.Err() == nil {
					m.Log.Warn("cannot take away units of hooks", "err", err)
				}
			}
		}
	})
}

// Stop ends what Start began.
func (m *Manager) Stop() {
	if m.end == nil {
		return
	}
	m.unwatch()
	m.end()
	m.tidying.Wait()
}

func (m *Manager) poke() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// spec is what a "run-hook" task does.
type spec struct {
	Hook     string        `json:"hook"`
	Revision snap.Revision `json:"revision"`
	Ignored  bool          `json:"ignored,omitempty"`
	// Values are options to set, which the hook sees and may refuse: an object.
	Values json.RawMessage `json:"values,omitempty"`
}

const specKey = "hook"

// Task makes a task that runs a hook. values are options that are set if it
// succeeds.
func Task(tx *state.Tx, s *snapstate.Setup, h lifecycle.HookStep, values map[string]any) (*state.Task, error) {
	t, err := snapstate.TaskFor(tx, s, "run-hook", fmt.Sprintf("Run hook %s of snap %q", h.Hook, s.Snap))
	if err != nil {
		return nil, err
	}
	sp := spec{Hook: h.Hook, Revision: h.Revision, Ignored: h.Ignored}
	if len(values) > 0 {
		if sp.Values, err = json.Marshal(values); err != nil {
			return nil, fmt.Errorf("cannot store options: %w", err)
		}
	}
	return t, t.Set(specKey, sp)
}

// doRunHook runs a hook that is a task of its own.
func (m *Manager) doRunHook(ctx context.Context, t *state.Task) (state.Commit, error) {
	setup, err := m.Snaps.SetupOf(t)
	if err != nil {
		return nil, err
	}
	var sp spec
	if err := t.Get(specKey, &sp); err != nil {
		return nil, fmt.Errorf("cannot read which hook to run: %w", err)
	}
	hook, err := m.hookOf(setup, sp)
	if err != nil {
		return nil, err
	}
	values, err := configstate.ReadOptions(sp.Values)
	if err != nil {
		return nil, err
	}
	again, err := m.begin(setup.Snap, t.ID(), values)
	if err != nil {
		return nil, err
	}
	err = m.run(ctx, t, job{hook: hook, event: setup.Event, from: setup.From, to: setup.To, timeout: m.Timeout, again: again})
	if errors.Is(context.Cause(ctx), state.ErrShutdown) && err != nil {
		return nil, err
	}
	switch {
	case err != nil && !sp.Ignored:
		return nil, errors.Join(err, m.forget(setup.Snap, t.ID()))
	case err != nil:
		t.Log("Going on all the same: %v", err)
		if err := m.forget(setup.Snap, t.ID()); err != nil {
			return nil, err
		}
	}
	failed := err != nil
	return func(tx *state.Tx) error {
		if setup.Event == lifecycle.Remove {
			return drop(tx, setup.Snap, t.ID())
		}
		if sp.Hook == snap.HookCheckHealth {
			if err := checkedHealth(tx, setup.Snap, t.ID(), sp.Revision, failed); err != nil {
				return err
			}
		}
		return m.Commit(tx, t.ID())
	}, nil
}

func (m *Manager) hookOf(s *snapstate.Setup, sp spec) (*snap.Hook, error) {
	from, to, others, err := m.Snaps.Sides(s)
	if err != nil {
		return nil, err
	}
	info := others[sp.Revision]
	for _, side := range []*snap.Info{from, to} {
		if side != nil && side.Revision == sp.Revision {
			info = side
		}
	}
	if info == nil || info.Hooks[sp.Hook] == nil {
		return nil, fmt.Errorf("cannot find the hook %q in revision %s of snap %q", sp.Hook, sp.Revision, s.Snap)
	}
	return info.Hooks[sp.Hook], nil
}

// undoRunHook ends a hook that an abort left running, and takes back the
// options that it set.
func (m *Manager) undoRunHook(ctx context.Context, t *state.Task) (state.Commit, error) {
	setup, err := m.Snaps.SetupOf(t)
	if err != nil {
		return nil, err
	}
	if err := m.Abandon(ctx, t); err != nil {
		return nil, err
	}
	return func(tx *state.Tx) error {
		var before undo
		if err := t.Undo(&before); errors.Is(err, state.ErrNoState) {
			return nil
		} else if err != nil {
			return fmt.Errorf("cannot read what was before the hook: %w", err)
		}
		rec, err := snapstate.Get(tx, setup.Snap)
		var missing *snapstate.NotInstalledError
		if errors.As(err, &missing) {
			return nil
		}
		if err != nil {
			return err
		}
		rec.Config, rec.Health = before.Config, before.Health
		return snapstate.Put(tx, rec)
	}, nil
}

// Allowance is how much longer a switch may take because of hooks. A refresh
// gets no more time: somebody waits for its services. What is installed for the
// first time nobody waits for.
func (m *Manager) Allowance(p *lifecycle.Plan) time.Duration {
	if p.Event != lifecycle.Install {
		return 0
	}
	return time.Duration(len(lifecycle.HooksAt(p.Hooks, lifecycle.Inside))) * (m.Timeout + grace + margin)
}

// margin is what a switch keeps for what comes after its hooks.
const margin = 2 * time.Second

// Inside runs the hooks that belong into a switch. again tells that an earlier
// run of the switch may have done so, too. What those that succeed say
// is read when the gate is open again.
func (m *Manager) Inside(ctx context.Context, t *state.Task, p *lifecycle.Plan, target *snap.Info, again bool) error {
	var outputs []func()
	for _, h := range lifecycle.HooksAt(p.Hooks, lifecycle.Inside) {
		hook := target.Hooks[h.Hook]
		if hook == nil {
			return fmt.Errorf("cannot find the hook %q in revision %s of snap %q", h.Hook, target.Revision, target.Name)
		}
		j := job{hook: hook, event: p.Event, from: p.From, to: p.To, timeout: m.Timeout, again: again}
		j.bound(ctx)
		j.later = func(st systemd.UnitStatus) {
			ctx := context.WithoutCancel(ctx)
			outputs = append(outputs, func() { m.output(ctx, t, &j, st) })
		}
		if err := m.run(ctx, t, j); err != nil {
			return err
		}
	}
	m.tidying.Go(func() {
		for _, show := range outputs {
			show()
		}
	})
	return m.ended(target.Name, t.ID())
}

// Abandon ends hooks of a task that still run, and forgets what they asked for.
func (m *Manager) Abandon(ctx context.Context, t *state.Task) error {
	setup, err := m.Snaps.SetupOf(t)
	if err != nil {
		return err
	}
	units, err := wrappers.HookUnits(m.Dirs)
	if err != nil {
		return err
	}
	for _, u := range units {
		if _, _, id, ok := wrappers.ParseHookUnitName(u); ok && id == t.ID() {
			if err := m.stop(ctx, u); err != nil {
				return err
			}
		}
	}
	return m.forget(setup.Snap, t.ID())
}

// tidy takes away the units of tasks that have ended, and what is left of
// what their hooks asked for.
func (m *Manager) tidy(ctx context.Context) error {
	units, err := wrappers.HookUnits(m.Dirs)
	if err != nil {
		return err
	}
	var errs []error
	for _, u := range units {
		_, _, id, ok := wrappers.ParseHookUnitName(u)
		if !ok {
			continue
		}
		if at, err := m.atWork(id); err != nil || at {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, m.takeAway(ctx, u))
	}
	return errors.Join(append(errs, m.sweep())...)
}

// atWork tells whether a task is being done or undone.
func (m *Manager) atWork(id string) (at bool, err error) {
	err = m.State.View(func(tx *state.Tx) error {
		at = atWork(tx, id)
		return nil
	})
	return at, err
}

func atWork(tx *state.Tx, id string) bool {
	t := tx.Task(id)
	if t == nil {
		return false
	}
	switch t.Status() {
	case state.Doing, state.Abort, state.Undoing:
		return true
	}
	return false
}

// sentence is the end of an error: the last lines of what a program wrote.
func sentence(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines[max(0, len(lines)-3):], "; ")
}
