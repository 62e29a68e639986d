// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"endured/dirs"
	"endured/overlord/lifecycle"
	"endured/overlord/seal"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// activators starts the sockets and timers of services that are new, and takes
// changed addresses and times over. The starts that they ask for wait at the gate.
func (sw *Switch) activators(ctx context.Context, c course, changed []string) error {
	if c.target == nil {
		return nil
	}
	set, err := wrappers.Units(c.target, sw.m.Wrap)
	if err != nil {
		return err
	}
	keep := map[string]bool{} // sockets that go on under their old address
	for _, a := range c.target.Services() {
		fresh := (c.other == nil || slices.Contains(c.enable, a.Name)) && !sw.heldBack(a.Name)
		for _, u := range set.Activators(a.Name) {
			sts, err := sw.m.Systemd.Status(ctx, u)
			if err != nil {
				return err
			}
			listens := sts[0].ActiveState == "active"
			timer := u == set.Timers[a.Name]
			switch {
			case listens && slices.Contains(changed, u) && !timer && c.wish[a.Name] == leave && sts[0].SubState == "running":
				// systemd refuses while the service runs, which has its old socket
				keep[u] = true
				sw.task.Log("%s keeps its old sockets until %s is restarted", a.Unit(), a.Unit())
			case listens && slices.Contains(changed, u):
				err = sw.m.Systemd.Run(ctx, "restart", u, "replace")
			case !listens && (fresh && sts[0].UnitFileState == "enabled" || slices.Contains(changed, u) && sts[0].ActiveState == "failed"):
				err = sw.m.Systemd.Run(ctx, "start", u, "replace")
			}
			if err != nil {
				return fmt.Errorf("cannot start %s: %w", u, err)
			}
		}
	}
	if err := sw.unlink(c, set, keep); err != nil {
		return err
	}
	return wrappers.MakeLinks(set.Links, sw.m.Wrap)
}

// unlink removes the links to sockets that lay where the target has none: those
// in common data, and in the target's own data their copies.
func (sw *Switch) unlink(c course, target wrappers.Set, keep map[string]bool) error {
	if c.other == nil {
		return nil
	}
	set, err := wrappers.Units(c.other, sw.m.Wrap)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, l := range target.Links {
		wanted[l.Path] = true
	}
	var system dirs.Dirs // as units see it
	old, now := system.Data(c.other.Name, c.other.Revision), system.Data(c.target.Name, c.target.Revision)
	var stale []wrappers.Link
	for _, l := range set.Links {
		if l.Base == old {
			l.Base, l.Path = now, now+strings.TrimPrefix(l.Path, old)
		}
		if !wanted[l.Path] && !keep[l.Unit] {
			stale = append(stale, l)
		}
	}
	return wrappers.RemoveLinks(stale, sw.m.Wrap)
}

// heldBack tells whether the operator has stopped the service, and whether that
// still holds: enabling the snap starts all that was enabled.
func (sw *Switch) heldBack(app string) bool {
	return sw.record != nil && sw.setup.Event != lifecycle.Enable && slices.Contains(sw.record.HandStopped, app)
}

// release opens the gate and waits until everything that was queued behind it
// has started.
func (sw *Switch) release(ctx context.Context, c course, jobs map[string]*systemd.Job) error {
	if sw.gate.breached() > 0 {
		// the queue was let go once; what skipped its start is queued again
		if err := sw.queue(ctx, c, jobs); err != nil {
			return err
		}
	}
	sw.swift(c)
	if err := sw.gate.release(ctx); err != nil {
		return err
	}
	for _, a := range c.wished(up) {
		if err := sw.started(ctx, c, a, jobs[a.Name]); err != nil {
			return err
		}
	}
	return nil
}

// queue makes sure that every service that is wanted up has a job or runs.
func (sw *Switch) queue(ctx context.Context, c course, jobs map[string]*systemd.Job) error {
	for _, a := range c.wished(up) {
		j := jobs[a.Name]
		if j == nil {
			continue
		}
		select {
		case <-j.Done():
		default:
			continue
		}
		if j.Result() == "canceled" {
			continue
		}
		next, err := sw.m.Systemd.Start(ctx, a.Unit(), "replace")
		if err != nil {
			return fmt.Errorf("cannot start %s: %w", a.Unit(), err)
		}
		jobs[a.Name] = next
	}
	return nil
}

// started waits for one start job. A cancelled one is the operator's stop. That
// of a oneshot lasts as long as its work, and is waited for a while: what fails
// at once fails the switch.
func (sw *Switch) started(ctx context.Context, c course, a *snap.App, job *systemd.Job) error {
	if job == nil {
		return nil
	}
	wctx, stop := ctx, func() {}
	if a.Daemon == "oneshot" {
		wctx, stop = context.WithTimeout(ctx, sw.m.Budget/4)
	}
	result, err := job.Wait(wctx)
	late := wctx.Err() != nil && ctx.Err() == nil
	stop()
	if err != nil && !late {
		return fmt.Errorf("cannot wait for %s: %w", a.Unit(), err)
	}
	sts, err := sw.m.Systemd.Status(ctx, a.Unit())
	if err != nil {
		return err
	}
	st := sts[0]
	switch {
	case late && st.AtWork():
		sw.task.Log("%s is at work; its end is not waited for", a.Unit())
		return nil
	case late:
		if result, err = job.Wait(ctx); err != nil {
			return fmt.Errorf("cannot wait for %s: %w", a.Unit(), err)
		}
	}
	switch result {
	case "done", "skipped":
		if !snapstate.UnitRuns(st) && sw.gate.breached() > 0 && a.Daemon != "oneshot" {
			if err := sw.m.Systemd.Run(ctx, "start", a.Unit(), "replace"); err != nil {
				return fmt.Errorf("cannot start %s: %w", a.Unit(), err)
			}
		}
		return nil
	case "canceled":
		if sw.m.goingDown(ctx) {
			// not the operator's word about this service: the next boot goes on
			<-ctx.Done()
			return context.Cause(ctx)
		}
		sw.task.Log("%s was stopped by the operator during the change, and stays stopped", a.Unit())
		sw.outcome(a.Name).StoppedByHand = true
		return nil
	}
	return fmt.Errorf("cannot start %s of revision %s: job %s%s", a.Unit(), c.target.Revision, result, describe(st))
}

// goingDown tells whether the system shuts down.
func (m *Manager) goingDown(ctx context.Context) bool {
	sts, err := m.Systemd.Status(ctx, "shutdown.target")
	return err == nil && (sts[0].JobID != 0 || sts[0].ActiveState == "active")
}

func describe(st systemd.UnitStatus) string {
	if st.Result == "" || st.Result == "success" {
		return ""
	}
	return fmt.Sprintf(" (%s, status %d)", st.Result, st.ExecMainStatus)
}

// observe looks at what the switch has led to.
func (sw *Switch) observe(ctx context.Context, c course) error {
	if !c.forward {
		return nil
	}
	for _, step := range sw.intent.Plan.Services {
		a := either(step.App, c.target, c.other)
		if a == nil {
			continue
		}
		sts, err := sw.m.Systemd.Status(ctx, a.Unit())
		if err != nil {
			return err
		}
		st := sts[0]
		after := lifecycle.Service{Running: snapstate.UnitRuns(st), MainPID: st.MainPID, InvocationID: st.InvocationID}
		if after.Running {
			after.Revision = sw.m.Snaps.RevisionOf(sw.record, a.Name, st)
			activated := service(c.target, a.Name) != nil && st.InvocationID != step.InvocationID
			if c.wish[a.Name] == up || activated || sw.outcome(a.Name).signalled && sw.runsNewCode(st.MainPID) {
				after.Revision = c.target.Revision // every start went through the gate, or it re-executed itself
			}
		}
		o := sw.outcome(step.App)
		exited := o.exited
		o.Outcome = lifecycle.Happened(step, after, o.signalled || step.Action == lifecycle.SignalStart)
		o.InvocationID = st.InvocationID
		if start := time.Duration(st.ExecMainStart) * time.Microsecond; (o.Action == lifecycle.DoRestart || o.Action == lifecycle.SignalStart) && exited > 0 && start > exited {
			o.GapMS = float64((start - exited).Microseconds()) / 1000
		}
		sw.say(step, o)
	}
	if sw.sealed != nil {
		sw.task.Log("%s", seal.Describe(sw.sealed))
	}
	return nil
}

func (sw *Switch) say(step lifecycle.Step, o *Outcome) {
	switch o.Action {
	case lifecycle.Keep:
		sw.task.Log("%s.%s kept running from revision %s (pid %d, %d workers)", sw.setup.Snap, o.App, o.FromRev, o.NewPID, step.Workers)
	case lifecycle.Signal:
		what := fmt.Sprintf("still runs from revision %s", step.From)
		if o.ToRev != step.From {
			what = "runs the new code, with the environment that it had"
		}
		sw.task.Log("%s.%s got %s and stays (pid %d): it %s", sw.setup.Snap, o.App, step.Signal, o.NewPID, what)
	case lifecycle.DoRestart, lifecycle.SignalStart:
		sw.task.Log("%s.%s restarted: revision %s to %s, pid %d to %d, gap %.1f ms%s", sw.setup.Snap, o.App, o.FromRev, o.ToRev, o.OldPID, o.NewPID, o.GapMS, frozen(o))
	case lifecycle.DoStart:
		sw.task.Log("%s.%s started from revision %s (pid %d)", sw.setup.Snap, o.App, o.ToRev, o.NewPID)
	case lifecycle.DoStop:
		sw.task.Log("%s.%s stopped (pid %d)", sw.setup.Snap, o.App, o.OldPID)
	}
}

func frozen(o *Outcome) string {
	if o.FrozenMS == 0 {
		return ""
	}
	return fmt.Sprintf(", workers frozen for %.1f ms", o.FrozenMS)
}
