// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/systemd"
	"endured/wrappers"
)

const (
	// freezeLimit bounds how long a service may stand still while its workers
	// are moved; one with a watchdog stands still for a quarter of it at most.
	freezeLimit = 500 * time.Millisecond
	// thawLimit bounds a wait that systemd never ends if main exits meanwhile.
	thawLimit = 2 * time.Second
	// moveAttempts is how often the move is tried: a process that vanishes
	// fails the whole call.
	moveAttempts = 50
)

// evacuate moves every process of a service but its main into a scope of its
// own, so that main can be signalled alone and the next one starts in an empty
// cgroup. The service is frozen meanwhile, so that no process is missed; it is
// left frozen if frozen says so, for a restart job that thaws it.
//
// Services that made sub-cgroups are left as they are: a move would flatten
// what a manager of containers has set up.
func (sw *Switch) evacuate(ctx context.Context, s lifecycle.Step, frozen bool) error {
	if !s.Survivors || s.Delegated {
		return nil
	}
	sts, err := sw.m.Systemd.Status(ctx, s.Unit)
	if err != nil {
		return err
	}
	st := sts[0]
	if st.ControlGroup == "" || st.MainPID == 0 {
		return nil
	}
	began := time.Now()
	stoodStill := func() { sw.outcome(s.App).FrozenMS = float64(time.Since(began).Microseconds()) / 1000 }
	fctx, stop := context.WithTimeout(ctx, sw.freezeLimit(s))
	err = sw.m.Systemd.Freeze(fctx, s.Unit)
	stop()
	if err != nil {
		// a process in an uninterruptible wait never freezes
		if ctx.Err() != nil {
			return err
		}
		sw.task.Log("%s could not be frozen, its workers are moved while they run", s.Unit)
		sw.thaw(ctx, s.Unit)
		stoodStill()
		return sw.moveAll(ctx, s, st)
	}
	if err = sw.moveAll(ctx, s, st); err != nil || !frozen {
		sw.thaw(ctx, s.Unit)
	}
	stoodStill()
	return err
}

func (sw *Switch) freezeLimit(s lifecycle.Step) time.Duration {
	limit := freezeLimit
	if a := service(sw.others[s.From], s.App); a != nil && a.WatchdogTimeout > 0 {
		limit = min(limit, a.WatchdogTimeout/4)
	}
	return limit
}

// thaw never fails: what cannot be thawed has no process left, or is thawed by
// the next stop.
func (sw *Switch) thaw(ctx context.Context, unit string) {
	tctx, stop := context.WithTimeout(context.WithoutCancel(ctx), thawLimit)
	defer stop()
	if err := sw.m.Systemd.Thaw(tctx, unit); err != nil {
		sw.m.Log.Warn("cannot thaw", "unit", unit, "err", err)
	}
}

// thawAll thaws what an earlier run of the switch left frozen.
func (sw *Switch) thawAll(ctx context.Context, c course) error {
	units := allServices(c.target, c.other)
	sts, err := sw.m.Systemd.Status(ctx, units...)
	if err != nil {
		return err
	}
	for _, st := range sts {
		if st.FreezerState != "" && st.FreezerState != "running" {
			sw.thaw(ctx, st.Name)
		}
	}
	return nil
}

// moveAll moves until two looks in a row find nothing but main.
//
// A process that vanishes on its way makes systemd call the scope failed, with
// those in it that did arrive: no stop would take them. So they are moved once
// more, and more carefully.
func (sw *Switch) moveAll(ctx context.Context, s lifecycle.Step, st systemd.UnitStatus) error {
	from := []string{filepath.Join(sw.m.CgroupRoot, st.ControlGroup)}
	empty := 0
	var last error
	for attempt := 1; attempt <= moveAttempts && empty < 2; attempt++ {
		pids, err := pidsIn(from)
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(p int) bool { return p == st.MainPID || p == st.ControlPID })
		if len(pids) == 0 {
			empty++
			continue
		}
		empty = 0
		var failed string
		if failed, err = sw.move(ctx, s, attempt, pids, last != nil); ctx.Err() != nil {
			return err
		}
		if err != nil {
			last = err
		}
		if failed != "" {
			from = append(from, failed)
		}
	}
	if empty < 2 {
		return fmt.Errorf("cannot move the workers of %s out of the way: %w", s.Unit, errors.Join(last, errors.New("there are always more")))
	}
	return nil
}

func pidsIn(cgroups []string) ([]int, error) {
	var out []int
	for _, c := range cgroups {
		pids, err := osutil.PIDsInCgroup(c)
		if err != nil {
			return nil, err
		}
		out = append(out, pids...)
	}
	return out, nil
}

// move puts processes into one new scope. If that fails after the scope was
// made, its cgroup is returned with the error. Careful is to make the scope
// with the oldest process alone, the least likely to vanish, and to have the
// others join it, whether they still exist or not.
func (sw *Switch) move(ctx context.Context, s lifecycle.Step, attempt int, pids []int, careful bool) (failed string, err error) {
	spec, err := sw.scope(s, attempt)
	if err != nil {
		return "", err
	}
	spec.PIDs = pids
	if careful {
		slices.SortStableFunc(pids, func(a, b int) int { return cmp.Compare(born(a), born(b)) })
		spec.PIDs = pids[:1]
	}
	job, err := sw.m.Systemd.StartTransientScope(ctx, spec)
	if err != nil {
		return "", err // a vanished process, or a name of an earlier run: tried again
	}
	result, err := job.Wait(ctx)
	if err != nil {
		return "", err
	}
	done := result == systemd.ResultDone
	if done && !careful {
		return "", nil
	}
	sts, err := sw.m.Systemd.Status(ctx, spec.Name)
	if err != nil {
		return "", err
	}
	cgroup := filepath.Join(sw.m.CgroupRoot, sts[0].ControlGroup)
	switch {
	case sts[0].ControlGroup == "":
		return "", fmt.Errorf("cannot move %d processes: job %s", len(spec.PIDs), result)
	case !done:
		return cgroup, fmt.Errorf("cannot move %d processes: job %s", len(spec.PIDs), result)
	}
	for _, p := range pids[1:] {
		if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(p)), 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return "", fmt.Errorf("cannot move pid %d to %s: %w", p, spec.Name, err)
		}
	}
	return "", nil
}

// born is when a process started; one that is gone comes last.
func born(pid int) uint64 {
	at, err := osutil.StartTime(pid)
	if err != nil {
		return math.MaxUint64
	}
	return at
}

// scope describes the scope of an attempt. Its stop side is that of the
// revision that the processes come from. PartOf= makes a stop of the service by
// hand take them; its crash, and the restart job of a refresh, do not. Workers that
// outlive every stop of their own service, by its stop-mode, outlive it in a scope
// as well.
func (sw *Switch) scope(s lifecycle.Step, attempt int) (systemd.ScopeSpec, error) {
	app := service(sw.others[s.From], s.App)
	if app == nil {
		return systemd.ScopeSpec{}, fmt.Errorf("cannot tell how revision %s of %s wants to be stopped", s.From, s.Unit)
	}
	stop, err := wrappers.StopSide(app, sw.m.Wrap)
	if err != nil {
		return systemd.ScopeSpec{}, err
	}
	properties := []systemd.Property{
		{Name: "KillSignal", Value: signalNumber(stop.KillSignal)},
		{Name: "TimeoutStopUSec", Value: stop.Timeout},
		{Name: "SendSIGHUP", Value: stop.SendSIGHUP},
		{Name: "CollectMode", Value: "inactive-or-failed"},
		{Name: "Requires", Value: []string{stop.Mount}},
		{Name: "After", Value: []string{stop.Mount}},
	}
	if stop.KillMode == "control-group" {
		properties = append(properties, systemd.Property{Name: "PartOf", Value: []string{s.Unit}})
	}
	return systemd.ScopeSpec{
		Name:        fmt.Sprintf("snap.%s.%s-r%s-%s.%d.scope", sw.setup.Snap, s.App, s.From, sw.task.ChangeID(), attempt),
		Description: fmt.Sprintf("Survivors of %s.%s from revision %s", sw.setup.Snap, s.App, s.From),
		Properties:  properties,
	}, nil
}

func signalNumber(name string) syscall.Signal {
	if n := unix.SignalNum(name); n != 0 {
		return n
	}
	return unix.SIGTERM
}
