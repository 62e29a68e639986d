// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Reload makes systemd read its unit files again (daemon-reload), and waits.
func (m *Manager) Reload(ctx context.Context) error {
	d := write(ctx, "daemon-reload", "")
	err := m.again(ctx, func(l *link) error { return l.sd.ReloadContext(ctx) })
	d.over(ctx, err)
	if err != nil {
		return fmt.Errorf("cannot reload systemd's units: %w", err)
	}
	return nil
}

// Reexecute makes systemd execute itself anew (daemon-reexec). Units and jobs
// stay. It returns when systemd answers again.
func (m *Manager) Reexecute(ctx context.Context) error {
	l, err := m.link(ctx)
	if err == nil {
		// The method never replies; the connection, or the name on the bus, goes.
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		call := l.call(short, "Reexecute")
		cancel()
		if err = convert(call.Err); l.isLost(ctx, err) || errors.Is(err, context.DeadlineExceeded) {
			err = ctx.Err()
		}
	}
	if err == nil {
		_, err = m.ListUnits(ctx, "-.mount")
	}
	if err != nil {
		return fmt.Errorf("cannot re-execute systemd: %w", err)
	}
	return nil
}

// Kill sends a signal to processes of a unit: who is "main", "control" or
// "all". No such process is ErrNoSuchProcess, except with "all"; a unit that
// is not loaded is ErrNoSuchUnit.
func (m *Manager) Kill(ctx context.Context, unit, who string, sig syscall.Signal) error {
	d := write(ctx, "signal", unit)
	d.signal(sig, who)
	l, err := m.link(ctx)
	if err == nil {
		answered := l.nudge(m.log)
		err = convert(l.sd.KillUnitWithTarget(ctx, unit, sd.Who(who), int32(sig)))
		answered()
		if l.isLost(ctx, err) {
			err = ErrConnectionLost
		}
	}
	d.over(ctx, err)
	if err != nil {
		return fmt.Errorf("cannot send %v to %s: %w", sig, unit, err)
	}
	return nil
}

// ResetFailed forgets a unit's failure and its start limit. A unit that is
// not known is not an error.
func (m *Manager) ResetFailed(ctx context.Context, unit string) error {
	err := m.again(ctx, func(l *link) error { return l.sd.ResetFailedUnitContext(ctx, unit) })
	if err != nil && !errors.Is(err, ErrNoSuchUnit) {
		return fmt.Errorf("cannot reset %s: %w", unit, err)
	}
	return nil
}

// Enable links units into what their [Install] sections name, for this and
// all later boots. It neither reloads nor starts anything, and says whether a
// link was made.
func (m *Manager) Enable(ctx context.Context, units ...string) (changed bool, err error) {
	if len(units) == 0 {
		return false, nil
	}
	err = m.again(ctx, func(l *link) error {
		_, changes, err := l.sd.EnableUnitFilesContext(ctx, units, false, true)
		changed = changed || len(changes) > 0
		return err
	})
	if err != nil {
		return changed, fmt.Errorf("cannot enable %s: %w", list(units), err)
	}
	return changed, nil
}

// Disable removes the links that Enable makes. It neither reloads nor stops
// anything, and says whether a link was removed. A unit without a file is not
// an error.
func (m *Manager) Disable(ctx context.Context, units ...string) (changed bool, err error) {
	if len(units) == 0 {
		return false, nil
	}
	err = m.again(ctx, func(l *link) error {
		changes, err := l.sd.DisableUnitFilesContext(ctx, units, false)
		changed = changed || len(changes) > 0
		return err
	})
	if err != nil && !errors.Is(err, ErrNoSuchUnit) {
		return changed, fmt.Errorf("cannot disable %s: %w", list(units), err)
	}
	return changed, nil
}

func list(units []string) string {
	if len(units) == 1 {
		return units[0]
	}
	return fmt.Sprintf("%d units (%s, …)", len(units), units[0])
}

// Freeze stops a unit's processes until Thaw, and returns when they have
// stopped. ctx bounds the wait, not the freezing: after an error Thaw.
func (m *Manager) Freeze(ctx context.Context, unit string) error {
	d := write(ctx, "freeze", unit)
	err := m.again(ctx, func(l *link) error { return l.sd.FreezeUnit(ctx, unit) })
	d.over(ctx, err)
	if err != nil {
		return fmt.Errorf("cannot freeze %s: %w", unit, err)
	}
	return nil
}

// Thaw undoes Freeze. systemd never answers if the main process exits
// meanwhile: give ctx a limit.
func (m *Manager) Thaw(ctx context.Context, unit string) error {
	d := write(ctx, "thaw", unit)
	err := m.again(ctx, func(l *link) error { return l.sd.ThawUnit(ctx, unit) })
	d.over(ctx, err)
	if err != nil {
		return fmt.Errorf("cannot thaw %s: %w", unit, err)
	}
	return nil
}

// Property is a setting of a unit as it goes over D-Bus. Value has the type
// that systemd wants for Name: string, bool, []string, uint32, uint64, int32;
// a time.Duration goes as µs in a uint64, a syscall.Signal as an int32.
type Property struct {
	Name  string
	Value any
}

func properties(in []Property) []sd.Property {
	out := make([]sd.Property, len(in))
	for i, p := range in {
		v := p.Value
		switch t := v.(type) {
		case time.Duration:
			v = uint64(t.Microseconds())
		case syscall.Signal:
			v = int32(t)
		}
		out[i] = sd.Property{Name: p.Name, Value: dbus.MakeVariant(v)}
	}
	return out
}

// SetProperties changes settings of a loaded unit at once; runtime says that
// they are gone after a reboot.
func (m *Manager) SetProperties(ctx context.Context, unit string, runtime bool, props ...Property) error {
	err := m.again(ctx, func(l *link) error {
		return l.sd.SetUnitPropertiesContext(ctx, unit, runtime, properties(props)...)
	})
	if err != nil {
		return fmt.Errorf("cannot set properties of %s: %w", unit, err)
	}
	return nil
}

// ScopeSpec describes a transient scope.
type ScopeSpec struct {
	Name        string // with ".scope"; ErrUnitExists if it is loaded
	Description string
	PIDs        []int  // moved into it; one that is gone fails the whole call
	Slice       string // "": systemd's default
	Properties  []Property
}

// StartTransientScope makes a scope of running processes. The job is done
// when they have been moved.
func (m *Manager) StartTransientScope(ctx context.Context, s ScopeSpec) (*Job, error) {
	pids := make([]uint32, len(s.PIDs))
	for i, p := range s.PIDs {
		pids[i] = uint32(p)
	}
	props := []Property{{"PIDs", pids}}
	if s.Description != "" {
		props = append(props, Property{"Description", s.Description})
	}
	if s.Slice != "" {
		props = append(props, Property{"Slice", s.Slice})
	}
	props = append(props, s.Properties...)
	return m.enqueue(ctx, "start", s.Name, "StartTransientUnit", s.Name, "fail", properties(props), []sd.PropertyCollection{})
}

// Process is a process of a unit.
type Process struct {
	CGroup  string // path below the cgroup root
	PID     int
	Command string
}

// Processes lists the processes in a unit's cgroup and below.
func (m *Manager) Processes(ctx context.Context, unit string) ([]Process, error) {
	var raw []struct {
		CGroup  string
		PID     uint32
		Command string
	}
	err := m.again(ctx, func(l *link) error { return l.call(ctx, "GetUnitProcesses", unit).Store(&raw) })
	if err != nil {
		return nil, fmt.Errorf("cannot list processes of %s: %w", unit, err)
	}
	out := make([]Process, len(raw))
	for i, p := range raw {
		out[i] = Process{CGroup: p.CGroup, PID: int(p.PID), Command: p.Command}
	}
	return out, nil
}

// UnitOf names the unit that a process is in.
func (m *Manager) UnitOf(ctx context.Context, pid int) (string, error) {
	var unit string
	err := m.again(ctx, func(l *link) (err error) {
		unit, err = l.sd.GetUnitNameByPID(ctx, uint32(pid))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot find the unit of process %d: %w", pid, err)
	}
	return unit, nil
}
