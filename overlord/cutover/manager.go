// SPDX-License-Identifier: Apache-2.0

// Package cutover moves a snap's services from one revision to another, or to
// none, or from none: the switch. Everything that can fail without touching a
// running process has been done before it begins. Inside, the refresh gate
// holds every start; each step finds out from the world whether it is done, so
// that the switch can be run again after a crash, and run backwards when it fails.
//
//	boot link · gate · settle · strays · stops · units and pins, one reload · restart jobs ·
//	seal · copy differences · current · hook · sockets · release · start jobs · boot link away
//
// Signals have their places in it: what must not be killed is asked first,
// survivors are moved away before a main is signalled by its restart job, and
// those that stay are notified after the release.
package cutover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"endured/dirs"
	"endured/overlord/lifecycle"
	"endured/overlord/seal"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// Systemd is what the switch needs of PID 1.
type Systemd interface {
	Start(ctx context.Context, unit, mode string) (*systemd.Job, error)
	Restart(ctx context.Context, unit, mode string) (*systemd.Job, error)
	Run(ctx context.Context, verb, unit, mode string) error
	CancelJob(ctx context.Context, id uint32) error
	Kill(ctx context.Context, unit, who string, sig syscall.Signal) error
	Freeze(ctx context.Context, unit string) error
	Thaw(ctx context.Context, unit string) error
	StartTransientScope(ctx context.Context, s systemd.ScopeSpec) (*systemd.Job, error)
	UnitOf(ctx context.Context, pid int) (string, error)
	Reload(ctx context.Context) error
	ResetFailed(ctx context.Context, unit string) error
	Enable(ctx context.Context, units ...string) (bool, error)
	Disable(ctx context.Context, units ...string) (bool, error)
	Status(ctx context.Context, units ...string) ([]systemd.UnitStatus, error)
	Settle(ctx context.Context, unit string, allowWaiting bool) (systemd.UnitStatus, error)
	WaitUnit(ctx context.Context, unit string, ok func(systemd.UnitStatus) bool) (systemd.UnitStatus, error)
}

// Hooks runs the hooks whose place is inside the switch.
type Hooks interface {
	// Allowance is how much longer a switch may take because of its hooks.
	Allowance(p *lifecycle.Plan) time.Duration
	// Inside runs them, from the target revision, within the time that ctx has.
	// One that ran already in this task, and in this boot, is not run again; again
	// tells those that are that an earlier run may have begun.
	Inside(ctx context.Context, t *state.Task, p *lifecycle.Plan, target *snap.Info, again bool) error
	// Abandon ends what a failed switch left running and forgets what its hooks
	// asked for.
	Abandon(ctx context.Context, t *state.Task) error
	// Commit records what they asked for.
	Commit(tx *state.Tx, taskID string) error
}

// Config is what a Manager is made of.
type Config struct {
	Dirs    dirs.Dirs
	State   *state.State
	Systemd Systemd
	Hooks   Hooks
	Snaps   *snapstate.Manager
	Seals   *seal.Manager
	Log     *slog.Logger
	Wrap    wrappers.Options
	BootID  string
	// CgroupRoot is where the unified cgroup hierarchy is mounted.
	CgroupRoot string
	// Budget bounds the part of a switch that holds starts, without the time
	// that stopping processes were promised. D-Bus activation clients give up
	// after 25 s.
	Budget time.Duration
	// Fault is for crash tests and nil otherwise. It is called after each step, with
	// "switch-snap:forward:" or "switch-snap:back:" and its name, such as "early restarts".
	Fault func(point string)
}

// DefaultBudget is the switch's budget when Config names none.
const DefaultBudget = 20 * time.Second

// Manager runs the task "switch-snap".
type Manager struct {
	Config

	// what was given up on is watched for as long as the daemon lives
	life    context.Context
	end     context.CancelFunc
	watches sync.WaitGroup

	// turns has room for the switches that go on at a time
	turns chan struct{}
}

// atOnce is how many snaps are switched at a time. PID 1 does one thing after
// the other: more of them would only hold each other's services up longer.
const atOnce = 2

// New makes a Manager and registers its task with the runner.
func New(c Config, run *state.Runner) *Manager {
	if c.Budget == 0 {
		c.Budget = DefaultBudget
	}
	m := &Manager{Config: c, turns: make(chan struct{}, atOnce)}
	m.life, m.end = context.WithCancel(context.Background())
	run.AddHandler("switch-snap", m.doSwitch, m.undoSwitch)
	return m
}

// Intent is what a switch will do and what was there before it. It is committed
// before the switch begins; do, undo and a restarted daemon follow it.
type Intent struct {
	Plan *lifecycle.Plan `json:"plan"`
	// Override and StopTimeoutMax are the operator's words that the plan took
	// into account; what is decided later does too.
	Override       lifecycle.Override `json:"override,omitempty"`
	StopTimeoutMax time.Duration      `json:"stop-timeout-max,omitempty"`
	// BootID of the boot in which the plan was made.
	BootID string `json:"boot-id"`
	// Disabled are the services that were disabled.
	Disabled []string `json:"disabled,omitempty"`
	// Record of the snap as it was, nil when it was not installed.
	Record *snapstate.Record `json:"record,omitempty"`
}

const intentKey = "intent/"

// SetIntent stores the intent in the change.
func SetIntent(c *state.Change, snapName string, i *Intent) error {
	return c.Set(intentKey+snapName, i)
}

func (m *Manager) intentOf(t *state.Task, s *snapstate.Setup) (*Intent, error) {
	var i Intent
	err := m.State.View(func(tx *state.Tx) error {
		return tx.Change(t.ChangeID()).Get(intentKey+s.Snap, &i)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the plan of change %s: %w", t.ChangeID(), err)
	}
	return &i, nil
}

func (m *Manager) newSwitch(t *state.Task) (*Switch, error) {
	s, err := m.Snaps.SetupOf(t)
	if err != nil {
		return nil, err
	}
	i, err := m.intentOf(t, s)
	if err != nil {
		return nil, err
	}
	from, to, others, err := m.Snaps.Sides(s)
	if err != nil {
		return nil, err
	}
	rec := i.Record
	if rec == nil {
		rec = &snapstate.Record{Name: s.Snap}
	}
	return &Switch{
		m: m, task: t, setup: s, intent: i, from: from, to: to, others: others, record: rec,
		gate: m.newGate(s.Snap),
		seen: map[string]*Outcome{},
		late: map[string]lifecycle.Step{},
	}, nil
}

// turn waits until this switch may begin. One that an earlier daemon began
// does not wait: it holds starts up.
func (m *Manager) turn(ctx context.Context) error {
	select {
	case m.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *Manager) doSwitch(ctx context.Context, t *state.Task) (state.Commit, error) {
	sw, err := m.newSwitch(t)
	if err != nil {
		return nil, err
	}
	defer sw.gate.close()
	if sw.again = sw.gate.linked(); !sw.again { // nothing is disturbed yet
		if err := m.turn(ctx); err != nil {
			return nil, err
		}
		defer func() { <-m.turns }()
		if err := m.Snaps.ResumeCopy(ctx, t, sw.setup); err != nil {
			return nil, err
		}
	}
	open, err := m.Snaps.Close(ctx, sw.setup.Snap)
	if err != nil {
		return nil, err
	}
	defer open()
	if err := sw.forward(ctx); err != nil {
		if stopping(ctx) {
			return nil, err // the gate stays; the next start goes on
		}
		t.Log("Going back: %v", err)
		if berr := sw.back(context.WithoutCancel(ctx)); berr != nil {
			return nil, errors.Join(err, berr)
		}
		return nil, err
	}
	return sw.commit, nil
}

func (m *Manager) undoSwitch(ctx context.Context, t *state.Task) (state.Commit, error) {
	if removed, err := m.Snaps.Removed(t); removed || err != nil {
		return nil, err
	}
	sw, err := m.newSwitch(t)
	if err != nil {
		return nil, err
	}
	defer sw.gate.close()
	open, err := m.Snaps.Close(ctx, sw.setup.Snap)
	if err != nil {
		return nil, err
	}
	defer open()
	err = sw.back(ctx)
	if err == nil || stopping(ctx) {
		return sw.uncommit, err
	}
	// what is undone next takes the new revision away: the record must not go
	// on to name it as current
	t.Log("Cannot put everything back: %v", err)
	return func(tx *state.Tx) error {
		tx.Warnf("snap %q went back to what it was, but not in full: %v", sw.setup.Snap, err)
		return sw.uncommit(tx)
	}, nil
}

// stopping tells whether ctx ended because the daemon stops.
func stopping(ctx context.Context) bool { return errors.Is(context.Cause(ctx), state.ErrShutdown) }

// Switch is one run of the task.
type Switch struct {
	m        *Manager
	task     *state.Task
	setup    *snapstate.Setup
	intent   *Intent
	from, to *snap.Info // nil is none
	others   map[snap.Revision]*snap.Info
	record   *snapstate.Record // as it was before
	gate     *gate
	seen     map[string]*Outcome       // by app
	late     map[string]lifecycle.Step // by app, see strays
	timings  []string
	way      string          // "forward" or "back"
	sealed   *snapstate.Seal // of the side that was left, nil if nobody stays
	again    bool            // an earlier daemon began it
	asked    bool            // hooks inside were run, which may have asked what stays to end
}

// Outcome is what the switch did to one service.
type Outcome struct {
	lifecycle.Outcome
	// GapMS is the time from the last sign of the old main process to the first
	// of the new one, in milliseconds; 0 where there was no such pair.
	GapMS float64 `json:"gap-ms,omitempty"`
	// FrozenMS is how long, at most, the processes beside main stood still while
	// they were moved out of its way, in milliseconds.
	FrozenMS float64 `json:"frozen-ms,omitempty"`
	// InvocationID of what runs now.
	InvocationID string `json:"invocation-id,omitempty"`
	// StoppedByHand: the operator cancelled the start.
	StoppedByHand bool `json:"stopped-by-hand,omitempty"`

	exited    time.Duration // CLOCK_MONOTONIC when the old main was gone
	signalled bool
}
