// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"endured/interfaces/mount"
	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// notifyPatience is how long a process that was told of the new revision may
// take to exit before it counts as staying.
const notifyPatience = 2 * time.Second

// execPoll is how often it is looked whether such a process is in the new code.
const execPoll = 20 * time.Millisecond

// NotEndedError says that a service that must not be killed did not end in its
// time. It goes on running, and nothing was started beside it.
type NotEndedError struct {
	Unit  string
	PID   int
	Bound time.Duration
}

func (e *NotEndedError) Error() string {
	return fmt.Sprintf("cannot stop %s: pid %d did not end within %s, and must not be killed (send-sigkill: false)", e.Unit, e.PID, e.Bound)
}

// asks ends, without a job, the services that must not be killed: a stop job
// that timed out would disown them. They come first, so that giving up has
// nothing to take back.
func (sw *Switch) asks(ctx context.Context, c course) error {
	if !c.forward {
		return nil
	}
	for _, s := range sw.steps() {
		ends := s.Action == lifecycle.DoRestart || s.Action == lifecycle.SignalStart || s.Action == lifecycle.DoStop
		if !ends || s.SendSIGKILL || s.MainPID == 0 {
			continue
		}
		sts, err := sw.m.Systemd.Status(ctx, s.Unit)
		if err != nil {
			return err
		}
		if sts[0].InvocationID != s.InvocationID || sts[0].MainPID != s.MainPID {
			continue // it ended, perhaps in an earlier run
		}
		if err := sw.evacuate(ctx, s, false); err != nil {
			return err
		}
		if err := sw.m.Ask(ctx, sw.setup.Snap, s, service(sw.others[s.From], s.App), c.target != nil); err != nil {
			return err
		}
		sw.outcome(s.App).exited = monotonic()
	}
	return nil
}

// Ask sends a service that must not be killed its signal, and waits as long as
// the step says until main has ended and the unit is settled. If it does not
// end, the error is a *NotEndedError, and with watch the process is watched:
// whenever it exits, the current revision is started. a is the service as the
// revision of the process has it, nil if that is not known.
func (m *Manager) Ask(ctx context.Context, snapName string, s lifecycle.Step, a *snap.App, watch bool) error {
	who, signal := "all", s.Signal
	if s.Signal != "" && !s.All {
		who = "main"
	}
	if signal == "" {
		signal = "SIGTERM"
		if a != nil {
			if stop, err := wrappers.StopSide(a, m.Wrap); err == nil {
				signal = stop.KillSignal
			}
		}
	}
	p, err := osutil.OpenProcess(s.MainPID)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot watch pid %d of %s: %w", s.MainPID, s.Unit, err)
	}
	defer p.Close()
	if err := m.Systemd.Kill(ctx, s.Unit, who, signalNumber(signal)); err != nil && !errors.Is(err, systemd.ErrNoSuchProcess) {
		return fmt.Errorf("cannot signal %s: %w", s.Unit, err)
	}
	wctx, stop := context.WithTimeout(ctx, s.StopTimeout)
	defer stop()
	if err := p.Wait(wctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		if watch {
			if err := m.abandon(snapName, s, 0); err != nil {
				return err
			}
		}
		return &NotEndedError{Unit: s.Unit, PID: s.MainPID, Bound: s.StopTimeout}
	}
	_, err = m.Systemd.WaitUnit(ctx, s.Unit, stopped)
	return err
}

// signalPin returns the drop-in for a service whose main a restart job ends by
// a signal, nil if none is needed.
func (sw *Switch) signalPin(s lifecycle.Step, c course) ([]byte, error) {
	started := sw.others[s.From]
	if !c.forward || s.Action != lifecycle.SignalStart || !s.SendSIGKILL || service(started, s.App) == nil || service(c.target, s.App) == nil {
		return nil, nil
	}
	data, needed, err := wrappers.SignalPin(started, c.target, s.App, s.Signal, s.Delegated, sw.m.Wrap)
	if err != nil || !needed {
		return nil, err
	}
	return data, nil
}

// unpin takes drop-ins away that have done their service: those of signals once
// the new main runs, since its own stop is its own revision's, and the pin of a
// process that was notified and has put itself into the new revision.
func (sw *Switch) unpin(ctx context.Context, c course) error {
	removed := false
	for _, s := range sw.steps() {
		renewed := s.Action == lifecycle.Signal && c.forward && c.target != nil && sw.outcome(s.App).ToRev == c.target.Revision
		if s.Action != lifecycle.SignalStart && !renewed {
			continue
		}
		ch, err := sw.m.setPin(s.Unit, nil)
		if err != nil {
			return err
		}
		removed = removed || ch
	}
	if !removed {
		return nil
	}
	return sw.m.Systemd.Reload(ctx)
}

// notifies tells the processes that stay that the new revision is in place.
// One that exits makes room for a new main; one that stays is reported.
func (sw *Switch) notifies(ctx context.Context, c course) error {
	if !c.forward {
		return nil
	}
	for _, g := range sw.intent.Plan.Generations {
		if g.Action != lifecycle.Signal {
			continue
		}
		if err := sw.giveData(g.PIDs, sw.m.Dirs.Data(sw.setup.Snap, c.target.Revision)); err != nil {
			sw.task.Log("Processes of %s cannot write the data of revision %s: %v", g.Unit, c.target.Revision, err)
		}
		err := sw.m.Systemd.Kill(ctx, g.Unit, "all", signalNumber(g.Signal))
		if err != nil && !errors.Is(err, systemd.ErrNoSuchUnit) && !errors.Is(err, systemd.ErrNoSuchProcess) {
			sw.task.Log("Cannot signal %s: %v", g.Unit, err)
		}
	}
	var told []*notified
	for _, s := range sw.steps() {
		if s.Action != lifecycle.Signal {
			continue
		}
		n, err := sw.notify(ctx, c, s)
		if err != nil {
			return err
		}
		if n != nil {
			defer n.process.Close()
			told = append(told, n)
		}
	}
	return sw.awaitNotified(ctx, told)
}

// notified is a main that was told of the new revision.
type notified struct {
	step    lifecycle.Step
	process *osutil.Process
}

// notify signals one service, after moving away what is not to be signalled.
// It returns nil if there is nobody to tell any more.
func (sw *Switch) notify(ctx context.Context, c course, s lifecycle.Step) (*notified, error) {
	sts, err := sw.m.Systemd.Status(ctx, s.Unit)
	if err != nil {
		return nil, err
	}
	st := sts[0]
	if st.InvocationID != s.InvocationID || st.MainPID == 0 {
		return nil, nil // it ended by itself, or was told by an earlier run
	}
	if err := sw.evacuate(ctx, s, false); err != nil {
		return nil, err
	}
	if err := sw.giveData([]int{st.MainPID}, sw.m.Dirs.Data(sw.setup.Snap, c.target.Revision)); err != nil {
		sw.task.Log("%s.%s cannot write the data of revision %s until it is restarted: %v", sw.setup.Snap, s.App, c.target.Revision, err)
	}
	p, err := osutil.OpenProcess(st.MainPID)
	if err != nil {
		return nil, nil // gone
	}
	who := "main"
	if s.All {
		who = "all"
	}
	sw.outcome(s.App).signalled = true
	if err := sw.m.Systemd.Kill(ctx, s.Unit, who, signalNumber(s.Signal)); err != nil && !errors.Is(err, systemd.ErrNoSuchProcess) {
		p.Close()
		return nil, fmt.Errorf("cannot signal %s: %w", s.Unit, err)
	}
	return &notified{s, p}, nil
}

// giveData makes a directory writable where the processes see it.
func (sw *Switch) giveData(pids []int, dir string) error {
	namespaces, err := mount.Namespaces(pids)
	for _, ns := range namespaces {
		err = errors.Join(err, ns.GiveWritable(dir))
		ns.Close()
	}
	return err
}

// awaitNotified gives those that were told their time together, and starts the
// new revision of each that exited.
func (sw *Switch) awaitNotified(ctx context.Context, told []*notified) error {
	wctx, stop := context.WithTimeout(ctx, notifyPatience)
	defer stop()
	for _, n := range told {
		if stays := sw.awaitWord(wctx, n); ctx.Err() != nil {
			return ctx.Err()
		} else if stays {
			continue
		}
		sw.outcome(n.step.App).exited = monotonic()
		after, err := sw.m.Systemd.WaitUnit(ctx, n.step.Unit, func(st systemd.UnitStatus) bool {
			return stopped(st) || st.InvocationID != n.step.InvocationID || st.MainPID != 0 && st.MainPID != n.step.MainPID
		})
		if err != nil {
			return err
		}
		if snapstate.UnitRuns(after) {
			continue // it named another main, or systemd was faster
		}
		if err := sw.m.Systemd.Run(ctx, "start", n.step.Unit, "replace"); err != nil {
			return err
		}
	}
	return nil
}

// awaitWord waits until a main that was told has exited, or has put itself into
// the new code; or until ctx is done. It reports whether it is still there.
func (sw *Switch) awaitWord(ctx context.Context, n *notified) (stays bool) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer stop()
		for !sw.runsNewCode(n.step.MainPID) {
			select { // nothing tells of an exec
			case <-ctx.Done():
				return
			case <-time.After(execPoll):
			}
		}
	}()
	return n.process.Wait(ctx) != nil
}

// runsNewCode tells whether a process has put itself into the new revision's
// executable.
func (sw *Switch) runsNewCode(pid int) bool {
	var exe, mount syscall.Stat_t
	if sw.to == nil || syscall.Stat(fmt.Sprintf("/proc/%d/exe", pid), &exe) != nil {
		return false
	}
	return syscall.Stat(sw.m.Dirs.Mount(sw.setup.Snap, sw.to.Revision), &mount) == nil && mount.Dev == exe.Dev
}
