// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// UnitStatus is what systemd knows of a unit, read at one moment. Fields that
// a unit's type does not have are zero.
type UnitStatus struct {
	Name          string
	Description   string
	LoadState     string // "loaded", "not-found", "masked", "bad-setting", "error", …
	ActiveState   string // "active", "reloading", "inactive", "failed", "activating", "deactivating"
	SubState      string
	UnitFileState string // "enabled", "disabled", "static", …; "" without a file
	FragmentPath  string
	Type          string // of a service: "simple", "notify", …
	Result        string // "success", "exit-code", "timeout", …
	InvocationID  string // 32 hex digits; "" if it never ran
	ControlGroup  string
	FreezerState  string // "running", "freezing", "frozen", "thawing"

	MainPID, ControlPID int // 0: none
	ExecMainPID         int // also of a main that is gone
	ExecMainStart       uint64
	ExecMainExit        uint64 // both CLOCK_MONOTONIC µs; 0: not yet
	ActiveExit          uint64 // when the unit last ceased to be "active", likewise
	ExecMainCode        int    // CLD_*: 1 exited, 2 killed, 3 dumped; 0 while it runs
	ExecMainStatus      int    // exit status or signal

	NeedDaemonReload     bool
	JobID                uint32 // 0: none
	JobType              string // "start", "stop", "restart", …
	JobState             string // "waiting", "running"
	NFileDescriptorStore int
	NRestarts            int
}

// WasStopped tells of a unit that has ended whether systemd was at stopping it
// before its main process ended: somebody had asked for that, or a limit was
// reached. Otherwise the process ended by itself or by a signal.
func (st UnitStatus) WasStopped() bool { return st.ActiveExit != 0 && st.ActiveExit < st.ExecMainExit }

// Status reads units, in the order of their names. A unit without a file has
// LoadState "not-found".
func (m *Manager) Status(ctx context.Context, units ...string) ([]UnitStatus, error) {
	out := make([]UnitStatus, len(units))
	for i, u := range units {
		st, err := m.status(ctx, u)
		if err != nil {
			return nil, fmt.Errorf("cannot read the state of %s: %w", u, err)
		}
		out[i] = st
	}
	return out, nil
}

func (m *Manager) status(ctx context.Context, unit string) (UnitStatus, error) {
	var st UnitStatus
	err := m.again(ctx, func(l *link) (err error) {
		st, err = l.status(ctx, unit)
		return err
	})
	return st, err
}

// status reads all interfaces in one call, so that what belongs together is
// from one moment. PID 1 loads the unit for it.
func (l *link) status(ctx context.Context, unit string) (UnitStatus, error) {
	var props map[string]dbus.Variant
	path := unitPath(unit)
	err := l.bus.Object(busName, path).CallWithContext(ctx, propertiesIfc+".GetAll", 0, "").Store(&props)
	if err != nil {
		err = convert(err)
		var e *Error
		if errors.As(err, &e) && (e.Name == "org.freedesktop.DBus.Error.UnknownObject" || errors.Is(err, ErrNoSuchUnit)) {
			return UnitStatus{Name: unit, LoadState: "not-found", ActiveState: "inactive", SubState: "dead"}, nil
		}
		return UnitStatus{}, err
	}
	st := decodeStatus(unit, props)
	if st.JobID != 0 {
		var job map[string]dbus.Variant
		p := dbus.ObjectPath(fmt.Sprintf("%s/job/%d", managerObj, st.JobID))
		err := l.bus.Object(busName, p).CallWithContext(ctx, propertiesIfc+".GetAll", 0, managerJobIfc).Store(&job)
		var e dbus.Error
		switch {
		case err == nil:
			st.JobType, st.JobState = str(job, "JobType"), str(job, "State")
		case errors.As(err, &e):
			// It ended between the two reads: what the unit is now is of interest.
			return l.status(ctx, unit)
		default:
			return UnitStatus{}, err
		}
	}
	return st, nil
}

const (
	propertiesIfc = "org.freedesktop.DBus.Properties"
	managerJobIfc = "org.freedesktop.systemd1.Job"
	unitIfc       = "org.freedesktop.systemd1.Unit"
	serviceIfc    = "org.freedesktop.systemd1.Service"
)

func decodeStatus(unit string, p map[string]dbus.Variant) UnitStatus {
	st := UnitStatus{
		Name:                 unit,
		Description:          str(p, "Description"),
		LoadState:            str(p, "LoadState"),
		ActiveState:          str(p, "ActiveState"),
		SubState:             str(p, "SubState"),
		UnitFileState:        str(p, "UnitFileState"),
		FragmentPath:         str(p, "FragmentPath"),
		Type:                 str(p, "Type"),
		Result:               str(p, "Result"),
		ControlGroup:         str(p, "ControlGroup"),
		FreezerState:         str(p, "FreezerState"),
		MainPID:              num(p, "MainPID"),
		ControlPID:           num(p, "ControlPID"),
		ExecMainPID:          num(p, "ExecMainPID"),
		ExecMainStart:        uint64(num(p, "ExecMainStartTimestampMonotonic")),
		ExecMainExit:         uint64(num(p, "ExecMainExitTimestampMonotonic")),
		ActiveExit:           uint64(num(p, "ActiveExitTimestampMonotonic")),
		ExecMainCode:         num(p, "ExecMainCode"),
		ExecMainStatus:       num(p, "ExecMainStatus"),
		NFileDescriptorStore: num(p, "NFileDescriptorStore"),
		NRestarts:            num(p, "NRestarts"),
	}
	st.NeedDaemonReload, _ = p["NeedDaemonReload"].Value().(bool)
	if id, ok := p["InvocationID"].Value().([]byte); ok {
		st.InvocationID = hex.EncodeToString(id)
	}
	if job, ok := p["Job"].Value().([]any); ok && len(job) == 2 {
		st.JobID, _ = job[0].(uint32)
	}
	return st
}

func str(p map[string]dbus.Variant, name string) string {
	s, _ := p[name].Value().(string)
	return s
}

func num(p map[string]dbus.Variant, name string) int {
	switch v := p[name].Value().(type) {
	case uint32:
		return int(v)
	case int32:
		return int(v)
	case uint64:
		return int(v)
	case int64:
		return int(v)
	}
	return 0
}

// monotonic is the clock of unit timestamps, in µs.
func monotonic() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano() / 1000)
}

// ListUnits lists the loaded units that match a pattern (shell globs; none
// means all). Only Name, Description, the three states and the job are set.
func (m *Manager) ListUnits(ctx context.Context, patterns ...string) ([]UnitStatus, error) {
	var out []UnitStatus
	err := m.again(ctx, func(l *link) error {
		units, err := l.sd.ListUnitsByPatternsContext(ctx, nil, patterns)
		out = make([]UnitStatus, 0, len(units))
		for _, u := range units {
			out = append(out, UnitStatus{Name: u.Name, Description: u.Description,
				LoadState: u.LoadState, ActiveState: u.ActiveState, SubState: u.SubState,
				JobID: u.JobId, JobType: u.JobType})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list units: %w", err)
	}
	return out, nil
}
