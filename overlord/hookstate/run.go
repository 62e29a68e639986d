// SPDX-License-Identifier: Apache-2.0

package hookstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// grace is how long a hook that took too long has to end by itself.
const grace = 2 * time.Second

// How much of a hook's output is shown.
const (
	outputLines = 6
	outputWidth = 300
)

// job is one run of a hook.
type job struct {
	hook     *snap.Hook
	event    lifecycle.Event
	from, to snap.Revision
	timeout  time.Duration
	why      string // the timeout is what it is: a clause between commas
	// again: an earlier run may have been cut off, by a loss of power.
	again bool
	// later, if set, is told how a hook succeeded whose output is to be read when
	// nobody waits.
	later func(systemd.UnitStatus)
}

// bound cuts the time of a hook that the snap's services wait for.
func (j *job) bound(ctx context.Context) {
	if j.event != lifecycle.Install {
		j.timeout = min(j.timeout, lifecycle.HeldHookTime)
		j.why = fmt.Sprintf(", all that %s has while the snap's services wait for it,", j.hook.Name)
	}
	end, ok := ctx.Deadline()
	if !ok {
		return
	}
	left := max(time.Second, (time.Until(end) - grace - margin).Truncate(100*time.Millisecond))
	if left < j.timeout {
		j.timeout, j.why = left, ", all that was left of the time in which the snap's services may wait,"
	}
}

func (j *job) failed(format string, args ...any) error {
	return fmt.Errorf("cannot run hook %q of snap %q: %w", j.hook.Name, j.hook.Snap.Name, fmt.Errorf(format, args...))
}

// run runs a hook, or waits for one that an earlier daemon began: its unit goes
// on without us and remembers how it ended. It stays until the task has ended.
func (m *Manager) run(ctx context.Context, t *state.Task, j job) error {
	unit := wrappers.HookUnitName(j.hook.Snap.Name, j.hook.Name, t.ID())
	sts, err := m.Systemd.Status(ctx, unit)
	if err != nil {
		return err
	}
	if begun(sts[0]) {
		t.Log("Hook %s was begun before the daemon was restarted, and is not run again", j.hook.Name)
	} else if err := m.start(ctx, t, unit, &j); err != nil {
		return err
	}
	st, err := m.Systemd.WaitUnit(ctx, unit, func(st systemd.UnitStatus) bool {
		return st.JobID == 0 && st.ActiveState != "activating" && st.ActiveState != "deactivating"
	})
	if err != nil {
		if errors.Is(context.Cause(ctx), state.ErrShutdown) {
			return err
		}
		serr := m.stop(context.WithoutCancel(ctx), unit)
		return errors.Join(j.failed("it was ended before it was done: %w", context.Cause(ctx)), serr)
	}
	if j.later != nil && st.ActiveState == "active" {
		j.later(st)
		return nil
	}
	return j.verdict(st, m.output(ctx, t, &j, st))
}

// begun tells whether the unit runs, or has, in this boot.
func begun(st systemd.UnitStatus) bool {
	switch st.ActiveState {
	case "activating", "active", "deactivating", "failed":
		return true
	}
	return st.JobID != 0
}

func (m *Manager) start(ctx context.Context, t *state.Task, unit string, j *job) error {
	env, err := m.environment(ctx, t, j)
	if err != nil {
		return err
	}
	if err := wrappers.EnsurePrivateTmp(j.hook.Snap, m.Wrap); err != nil {
		return err
	}
	file, err := wrappers.HookUnit(j.hook, wrappers.HookRun{ID: t.ID(), Env: env, Timeout: j.timeout, Grace: grace}, m.Wrap)
	if err != nil {
		return err
	}
	if _, err := wrappers.Write([]wrappers.File{file}, m.Wrap); err != nil {
		return err
	}
	if _, err := m.Systemd.Start(ctx, unit, "replace"); err != nil {
		return j.failed("%w", err)
	}
	return nil
}

// environment is what a hook is told besides what every program of the snap is.
func (m *Manager) environment(ctx context.Context, t *state.Task, j *job) ([]snap.EnvVar, error) {
	old, err := m.processes(ctx, j.hook.Snap)
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, p := range old {
		if p.Revision != j.to {
			pids = append(pids, fmt.Sprintf("%s=%d", p.App, p.PID))
		}
	}
	revision := func(r snap.Revision) string {
		if r.Unset() {
			return ""
		}
		return r.String()
	}
	vars := []snap.EnvVar{
		{Name: "SNAP_HOOK", Value: j.hook.Name},
		{Name: "SNAP_HOOK_EVENT", Value: j.event.Word()},
		{Name: "SNAP_HOOK_FROM_REVISION", Value: revision(j.from)},
		{Name: "SNAP_HOOK_TO_REVISION", Value: revision(j.to)},
		{Name: "SNAP_HOOK_CHANGE_ID", Value: t.ChangeID()},
		{Name: "SNAP_HOOK_OLD_PIDS", Value: strings.Join(pids, " ")},
	}
	if j.again {
		vars = append(vars, snap.EnvVar{Name: "SNAP_HOOK_AGAIN", Value: "1"})
	}
	return vars, nil
}

// processes lists the main processes of a snap's services, by app.
func (m *Manager) processes(ctx context.Context, info *snap.Info) ([]lifecycle.Process, error) {
	rec, err := m.Snaps.Lookup(info.Name)
	var missing *snapstate.NotInstalledError
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	infos := []*snap.Info{info}
	for n := range rec.Sequence {
		if i, err := m.Snaps.Info(rec.Name, &rec.Sequence[n]); err == nil {
			infos = append(infos, i)
		}
	}
	obs, err := m.Snaps.Observe(ctx, rec, infos...)
	if err != nil {
		return nil, err
	}
	var out []lifecycle.Process
	for _, app := range slices.Sorted(maps.Keys(obs.Services)) {
		if s := obs.Services[app]; s.Running && s.MainPID != 0 {
			out = append(out, lifecycle.Process{PID: s.MainPID, App: app, Revision: s.Revision})
		}
	}
	return out, nil
}

// verdict says how the unit's end is to be taken.
func (j *job) verdict(st systemd.UnitStatus, lines []string) error {
	said := sentence(lines)
	switch {
	case st.ActiveState == "active":
		return nil
	case st.Result == "timeout":
		return j.failed("it did not end within %s%s and was killed%s", j.timeout, j.why, said)
	case st.Result == "exit-code" && st.ExecMainStatus > 200:
		return j.failed("systemd could not start it (status %d)%s", st.ExecMainStatus, said)
	case st.Result == "exit-code":
		return j.failed("exit status %d%s", st.ExecMainStatus, said)
	case st.Result == "signal", st.Result == "core-dump":
		return j.failed("it was ended by %s%s", unix.SignalName(syscall.Signal(st.ExecMainStatus)), said)
	case st.ActiveState == "inactive":
		return j.failed("somebody stopped it%s", said)
	}
	return j.failed("%s%s", st.Result, said)
}

// output puts the last lines that the hook wrote into the task's log.
func (m *Manager) output(ctx context.Context, t *state.Task, j *job, st systemd.UnitStatus) []string {
	if m.Journal == nil || st.InvocationID == "" {
		return nil
	}
	raw, err := m.Journal.Output(ctx, st.Name, st.InvocationID, outputLines)
	if err != nil {
		t.Log("Cannot show what hook %s said: %v", j.hook.Name, err)
		return nil
	}
	var lines []string
	for _, l := range raw {
		l = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, l))
		if r := []rune(l); len(r) > outputWidth {
			l = string(r[:outputWidth]) + "…"
		}
		if l != "" {
			lines = append(lines, l)
			t.Log("%s: %s", j.hook.Name, l)
		}
	}
	return lines
}

// stop ends a hook that runs.
func (m *Manager) stop(ctx context.Context, unit string) error {
	ctx, end := context.WithTimeout(ctx, 10*grace)
	defer end()
	err := m.Systemd.Run(ctx, "stop", unit, "replace")
	if err != nil && !errors.Is(err, systemd.ErrNoSuchUnit) {
		return fmt.Errorf("cannot end %s: %w", unit, err)
	}
	return nil
}

// takeAway removes the unit of a hook whose task has ended.
func (m *Manager) takeAway(ctx context.Context, unit string) error {
	if err := m.stop(ctx, unit); err != nil {
		return err
	}
	if err := m.Systemd.ResetFailed(ctx, unit); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(m.Dirs.RunUnits(), unit))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the unit of a hook: %w", err)
	}
	return wrappers.SweepContent(m.Wrap)
}
