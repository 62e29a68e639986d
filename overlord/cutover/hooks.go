// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"fmt"

	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/systemd"
)

// hooks runs those of the new revision: it is in its place, and nothing of it
// has been started. A service that was to stay and that the hook has ended is
// started with the others.
func (sw *Switch) hooks(ctx context.Context, c course, jobs map[string]*systemd.Job) error {
	if !sw.hooked(c) {
		return nil
	}
	sw.asked = true
	if err := sw.m.Hooks.Inside(ctx, sw.task, sw.intent.Plan, c.target, sw.again); err != nil {
		return err
	}
	return sw.revive(ctx, c, jobs)
}

// revive starts what a hook has ended although it was to stay.
func (sw *Switch) revive(ctx context.Context, c course, jobs map[string]*systemd.Job) error {
	for _, s := range sw.stayed() {
		a := service(c.target, s.App)
		if a == nil || c.wish[s.App] != leave {
			continue
		}
		gone, err := sw.isGone(ctx, a.Unit(), s.InvocationID)
		if err != nil {
			return err
		}
		if !gone {
			continue
		}
		sw.task.Log("%s was ended by the hook, and is started from revision %s", a.Unit(), c.target.Revision)
		if err := sw.m.Systemd.ResetFailed(ctx, a.Unit()); err != nil {
			return err
		}
		if jobs[s.App], err = sw.m.Systemd.Start(ctx, a.Unit(), "replace"); err != nil {
			return fmt.Errorf("cannot start %s again: %w", a.Unit(), err)
		}
		c.wish[s.App] = up
	}
	return nil
}

// ending starts what has ended since the hooks asked it to, and watches what
// may take longer. The gate is open by now.
func (sw *Switch) ending(ctx context.Context, c course) error {
	if !c.forward && c.target != nil && sw.asked {
		return sw.watchAsked(c)
	}
	if !sw.hooked(c) {
		return nil
	}
	late := map[string]*systemd.Job{}
	if err := sw.revive(ctx, c, late); err != nil {
		return err
	}
	for app, job := range late {
		if err := sw.started(ctx, c, service(c.target, app), job); err != nil {
			return err
		}
	}
	return sw.watchAsked(c)
}

// watchAsked watches the services that stay for as long as their own revision
// lets them take to stop: a hook may have asked one to end, and nothing tells.
func (sw *Switch) watchAsked(c course) error {
	for _, s := range sw.stayed() {
		a := service(sw.others[s.From], s.App)
		if service(c.target, s.App) == nil || c.wish[s.App] != leave {
			continue
		}
		within := snap.DefaultStopTimeout
		if a != nil && a.StopTimeout > 0 {
			within = a.StopTimeout
		}
		if limit := sw.intent.StopTimeoutMax; limit > 0 {
			within = min(within, limit)
		}
		if err := sw.m.abandon(sw.setup.Snap, s, within); err != nil {
			return err
		}
	}
	return nil
}

// hooked tells whether hooks belong to this way of the switch.
func (sw *Switch) hooked(c course) bool {
	return c.forward && c.target != nil && len(lifecycle.HooksAt(sw.intent.Plan.Hooks, lifecycle.Inside)) > 0
}

// stayed are the services that the plan leaves running.
func (sw *Switch) stayed() []lifecycle.Step {
	var out []lifecycle.Step
	for _, s := range sw.intent.Plan.Services {
		if s.MainPID != 0 && (s.Action == lifecycle.Keep || s.Action == lifecycle.Signal) {
			out = append(out, s)
		}
	}
	return out
}

// isGone tells whether what ran in a unit under that invocation has ended. What
// systemd is about to start again by itself has.
func (sw *Switch) isGone(ctx context.Context, unit, invocation string) (bool, error) {
	st, err := sw.m.Systemd.Settle(ctx, unit, true)
	if err != nil {
		return false, fmt.Errorf("cannot see whether %s still runs: %w", unit, err)
	}
	return !snapstate.UnitRuns(st) || st.InvocationID != invocation, nil
}

// reviveBack lists, for the way back, what a hook has ended: it is to run again
// as it did before.
func (sw *Switch) reviveBack(ctx context.Context, c course) error {
	if len(lifecycle.HooksAt(sw.intent.Plan.Hooks, lifecycle.Inside)) == 0 {
		return nil
	}
	for _, s := range sw.stayed() {
		a := service(c.target, s.App)
		if a == nil || c.wish[s.App] != leave {
			continue
		}
		gone, err := sw.isGone(ctx, a.Unit(), s.InvocationID)
		if err != nil {
			return err
		}
		if gone {
			c.wish[s.App] = up
		}
	}
	return nil
}
