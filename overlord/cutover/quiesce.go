// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// stops ends what will not run afterwards: first what would start it again,
// then the services, dependants first.
func (sw *Switch) stops(ctx context.Context, c course) error {
	apps := c.wished(down)
	slices.Reverse(apps)
	var activators []string
	for _, a := range apps {
		activators = append(activators, snapstate.ActivatorUnits(a)...)
	}
	// a service that does not run may still have a socket that listens
	for _, a := range c.wished(leave) {
		if either(a.Name, c.target) == nil {
			activators = append(activators, snapstate.ActivatorUnits(a)...)
			apps = append(apps, a)
		}
	}
	activators = append(activators, closed(c)...)
	for _, u := range activators {
		if err := sw.stop(ctx, u); err != nil {
			return err
		}
	}
	for _, a := range apps {
		if err := sw.stop(ctx, a.Unit()); err != nil {
			return err
		}
		sw.outcome(a.Name).exited = monotonic()
	}
	return sw.stopScopes(ctx, c)
}

// closed lists the activators that a service has on the other side only, while
// it is on both. Without its file a socket would go on to listen, and would
// keep its address from one that has it under another name.
func closed(c course) []string {
	if c.target == nil || c.other == nil {
		return nil
	}
	var out []string
	for _, a := range c.other.Services() {
		next := service(c.target, a.Name)
		if next == nil {
			continue // stopped with its activators
		}
		kept := snapstate.ActivatorUnits(next)
		for _, u := range snapstate.ActivatorUnits(a) {
			if !slices.Contains(kept, u) {
				out = append(out, u)
			}
		}
	}
	return out
}

func (sw *Switch) stop(ctx context.Context, unit string) error {
	sts, err := sw.m.Systemd.Status(ctx, unit, systemSlice)
	if err != nil {
		return err
	}
	st := sts[0]
	if snapstate.UnitRuns(st) || st.JobID != 0 || st.ActiveState == "activating" {
		// the stop of its service takes a scope along, which then is gone
		if err := sw.m.Systemd.Run(ctx, "stop", unit, "replace"); err != nil && !errors.Is(err, systemd.ErrNoSuchUnit) {
			return fmt.Errorf("cannot stop %s: %w", unit, err)
		}
	}
	if st.ControlGroup == "" {
		// systemd forgets the cgroup of a unit that has stopped, even where a
		// stop-mode without "-all" left workers in it
		st.ControlGroup = filepath.Join(sts[1].ControlGroup, unit)
	}
	return sw.sweep(ctx, unit, filepath.Join(sw.m.CgroupRoot, st.ControlGroup))
}

// systemSlice holds the services of snaps.
const systemSlice = "system.slice"

// sweep ends what the unit's own stop left behind: a stop-mode without "-all"
// spares the workers at every stop, but not when the service goes for good.
func (sw *Switch) sweep(ctx context.Context, unit, cgroup string) error {
	bound, signal := snap.DefaultStopTimeout, unix.SIGTERM
	for _, s := range sw.steps() {
		if s.Unit == unit && s.StopTimeout > 0 {
			bound = s.StopTimeout
			signal = signalNumber(s.Signal)
		}
	}
	pids, err := osutil.PIDsInCgroup(cgroup)
	if err != nil || len(pids) == 0 {
		return err
	}
	for _, pid := range pids {
		p, err := osutil.OpenProcess(pid)
		if err != nil {
			continue // gone
		}
		p.Signal(signal) // an error means that it is gone
		p.Close()
	}
	gctx, stop := context.WithTimeout(ctx, bound)
	defer stop()
	if err := osutil.WaitPIDs(gctx, pids); err == nil {
		if pids, err = osutil.PIDsInCgroup(cgroup); err != nil || len(pids) == 0 {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.kill"), []byte("1"), 0); err != nil {
		return fmt.Errorf("cannot end the processes that %s left: %w", unit, err)
	}
	return osutil.WaitPIDs(ctx, pids)
}

// stopScopes ends what the plan ends besides services, all at once: the scopes
// of earlier refreshes, and running apps.
func (sw *Switch) stopScopes(ctx context.Context, c course) error {
	if !c.forward {
		return nil
	}
	var units []string
	for _, g := range sw.intent.Plan.Generations {
		if g.Action == lifecycle.DoStop {
			units = append(units, g.Unit)
			defer sw.m.Bound(ctx, g)()
		}
	}
	for _, a := range sw.intent.Plan.Apps {
		if a.Action != lifecycle.DoStop {
			continue
		}
		unit, err := sw.m.Systemd.UnitOf(ctx, a.PID)
		if errors.Is(err, systemd.ErrNoSuchProcess) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot end pid %d of %s: %w", a.PID, a.App, err)
		}
		if !strings.HasPrefix(unit, "snap."+sw.setup.Snap+".") || !strings.HasSuffix(unit, ".scope") {
			continue // the number is another process's by now: the plan may be from before a boot
		}
		if !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	errs := make([]error, len(units))
	var ends sync.WaitGroup
	for i, u := range units {
		ends.Go(func() { errs[i] = sw.stop(ctx, u) })
	}
	ends.Wait()
	return errors.Join(errs...)
}

// Bound makes the operator's ceiling hold for a scope that was made before the
// ceiling was set: what is there when the step's time is over is killed. The
// result ends that.
func (m *Manager) Bound(ctx context.Context, g lifecycle.GenerationStep) (done func()) {
	if !g.Clamped {
		return func() {} // the scope has the same bound
	}
	late := time.AfterFunc(g.StopTimeout, func() {
		err := m.Systemd.Kill(ctx, g.Unit, "all", unix.SIGKILL)
		if err != nil && !errors.Is(err, systemd.ErrNoSuchUnit) && !errors.Is(err, systemd.ErrNoSuchProcess) {
			m.Log.Warn("cannot end what an earlier refresh left", "unit", g.Unit, "err", err)
		}
	})
	return func() { late.Stop() }
}

// ending is a main process on its way out.
type ending struct {
	app, unit string
	pid       int
}

// restarts ends the old main processes of what is wanted up, and queues their
// starts behind the gate, dependants first, adding the jobs to jobs. When it
// returns nothing of them runs any more, so that the data can be copied.
//
// It is called twice. Early, under the unit files of the old revision, it ends
// the processes that the new ones would stop otherwise than their own revision
// says: with another signal, command or bound, or in a mount namespace that is
// not theirs. For them a reload lies in the gap. All others serve on until the
// new unit files are loaded.
func (sw *Switch) restarts(ctx context.Context, c course, jobs map[string]*systemd.Job, early bool) error {
	apps := c.wished(up)
	slices.Reverse(apps)
	var endings []ending
	for _, a := range apps {
		if jobs[a.Name] != nil {
			continue
		}
		sts, err := sw.m.Systemd.Status(ctx, a.Unit())
		if err != nil {
			return err
		}
		st := sts[0]
		running := snapstate.UnitRuns(st)
		rev := sw.m.Snaps.RevisionOf(sw.record, a.Name, st)
		switch {
		case running && rev == c.target.Revision:
			continue // an earlier run started it, or it was never stopped
		case early:
			if differs, err := sw.stopDiffers(a.Name, rev, c); err != nil || !running || !differs {
				if err != nil {
					return err
				}
				continue
			}
		}
		if step := sw.step(a.Name); running && c.forward && step != nil {
			if err := sw.evacuate(ctx, *step, true); err != nil {
				return err
			}
		}
		if running {
			jobs[a.Name], err = sw.m.Systemd.Restart(ctx, a.Unit(), "ignore-requirements")
			endings = append(endings, ending{a.Name, a.Unit(), st.MainPID})
		} else {
			jobs[a.Name], err = sw.m.Systemd.Start(ctx, a.Unit(), "replace")
		}
		if err != nil {
			return fmt.Errorf("cannot restart %s: %w", a.Unit(), err)
		}
	}
	return sw.awaitEnd(ctx, endings)
}

// stopDiffers tells whether the target's unit would stop a process of the
// revision started in another way than that revision's own.
func (sw *Switch) stopDiffers(app string, started snap.Revision, c course) (bool, error) {
	if s := sw.step(app); c.forward && s != nil && s.Action == lifecycle.SignalStart {
		return false, nil // its drop-in says how
	}
	info := sw.others[started]
	if service(info, app) == nil || service(c.target, app) == nil {
		return false, nil
	}
	return wrappers.StopDiffers(info, c.target, app, sw.m.Wrap)
}

func (sw *Switch) awaitEnd(ctx context.Context, endings []ending) error {
	for _, e := range endings {
		if e.pid != 0 {
			if err := osutil.WaitPIDs(ctx, []int{e.pid}); err != nil {
				return fmt.Errorf("cannot stop %s: pid %d: %w", e.unit, e.pid, err)
			}
		}
		sw.outcome(e.app).exited = monotonic()
		// main is gone; its children may still be on their way
		if _, err := sw.m.Systemd.WaitUnit(ctx, e.unit, stopped); err != nil {
			return fmt.Errorf("cannot stop %s: %w", e.unit, err)
		}
	}
	return nil
}

func stopped(st systemd.UnitStatus) bool {
	return st.MainPID == 0 && st.ControlPID == 0 && (st.ActiveState == "inactive" || st.ActiveState == "failed" ||
		st.ActiveState == "activating" && st.SubState == "auto-restart")
}

func (sw *Switch) outcome(app string) *Outcome {
	o := sw.seen[app]
	if o == nil {
		o = &Outcome{}
		o.App = app
		sw.seen[app] = o
	}
	return o
}

// monotonic is CLOCK_MONOTONIC, the clock of systemd's time stamps.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
