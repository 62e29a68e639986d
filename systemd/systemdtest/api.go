// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/godbus/dbus/v5"
)

// object is org.freedesktop.systemd1.Manager: its methods are called by
// name over the wire.
type object struct{ f *Fake }

// enter locks, records a call, and fails it if a test wants that.
func (o *object) enter(method string, args ...any) (leave func(), err *dbus.Error) {
	call := strings.TrimSpace(method + " " + fmt.Sprintln(args...))
	if method != "" && o.f.hooks.Call != nil {
		if err := o.f.hooks.Call(call); err != nil {
			return nil, failure("Failed", "%v", err)
		}
	}
	o.f.mu.Lock()
	if method != "" {
		o.f.calls = append(o.f.calls, call)
		if fail := o.f.failNext[method]; fail != nil {
			delete(o.f.failNext, method)
			o.f.mu.Unlock()
			return nil, failure("Failed", "%v", fail)
		}
	}
	return o.f.mu.Unlock, nil
}

func (o *object) Subscribe() *dbus.Error { return nil }

func (o *object) StartUnit(name, mode string) (dbus.ObjectPath, *dbus.Error) {
	return o.request("StartUnit", "start", name, mode)
}

func (o *object) StopUnit(name, mode string) (dbus.ObjectPath, *dbus.Error) {
	return o.request("StopUnit", "stop", name, mode)
}

func (o *object) RestartUnit(name, mode string) (dbus.ObjectPath, *dbus.Error) {
	return o.request("RestartUnit", "restart", name, mode)
}

func (o *object) request(method, verb, name, mode string) (dbus.ObjectPath, *dbus.Error) {
	leave, err := o.enter(method, name, mode)
	if err != nil {
		return "", err
	}
	defer leave()
	j, err := o.f.enqueue(verb, name, mode)
	if err != nil {
		return "", err
	}
	o.f.kick()
	return j.path(), nil
}

func (o *object) Reload() *dbus.Error {
	leave, err := o.enter("Reload")
	if err != nil {
		return err
	}
	defer leave()
	o.f.reload()
	o.f.kick()
	return nil
}

// Reexecute keeps everything but the connections.
func (o *object) Reexecute() *dbus.Error {
	leave, err := o.enter("Reexecute")
	if err != nil {
		return err
	}
	leave()
	o.f.DropConnections()
	return nil
}

func (o *object) CancelJob(id uint32) *dbus.Error {
	leave, err := o.enter("CancelJob", id)
	if err != nil {
		return err
	}
	defer leave()
	j := o.f.jobs[id]
	if j == nil {
		return failure("NoSuchJob", "Job %d does not exist.", id)
	}
	o.f.finish(j, "canceled")
	o.f.kick()
	return nil
}

func (o *object) GetJob(id uint32) (dbus.ObjectPath, *dbus.Error) {
	leave, _ := o.enter("")
	defer leave()
	if j := o.f.jobs[id]; j != nil {
		return j.path(), nil
	}
	return "", failure("NoSuchJob", "Job %d does not exist.", id)
}

// loaded is a unit that is in memory.
func (f *Fake) loaded(name string) (*unit, *dbus.Error) {
	if u := f.load(name); u.load != "not-found" || u.active != "inactive" {
		return u, nil
	}
	return nil, failure("NoSuchUnit", "Unit %s not loaded.", name)
}

func (o *object) KillUnit(name, who string, signal int32) *dbus.Error {
	leave, err := o.enter("KillUnit", name, who, signal)
	if err != nil {
		return err
	}
	u, err := o.f.loaded(name)
	if err != nil {
		leave()
		return err
	}
	var pids []int
	switch {
	case who == "main" && u.mainPID == 0, who == "control":
		leave()
		return failure("NoSuchProcess", "No %s process to kill", who)
	case who == "main":
		pids = []int{u.mainPID}
	default:
		for pid := range u.procs {
			pids = append(pids, pid)
		}
		slices.Sort(pids)
	}
	leave()
	go o.signal(name, pids, syscall.Signal(signal))
	return nil
}

// signal delivers a signal after the call has been answered.
func (o *object) signal(name string, pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		ends := !slices.Contains([]syscall.Signal{0, syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGCHLD}, sig)
		if o.f.hooks.Signal != nil {
			ends = o.f.hooks.Signal(name, pid, sig)
		}
		if !ends {
			continue
		}
		o.f.mu.Lock()
		if u := o.f.units[name]; u != nil {
			if pid == u.mainPID {
				o.f.mainExited(u, 2, int(sig))
			}
			delete(u.procs, pid)
			o.f.emptied(u)
		}
		o.f.kick()
		o.f.mu.Unlock()
	}
}

func (o *object) ResetFailedUnit(name string) *dbus.Error {
	leave, err := o.enter("ResetFailedUnit", name)
	if err != nil {
		return err
	}
	defer leave()
	u, err := o.f.loaded(name)
	if err != nil {
		return err
	}
	if u.active == "failed" {
		u.active, u.sub = "inactive", "dead"
	}
	u.result, u.restarts = "success", 0
	o.f.changed(u)
	return nil
}

func (o *object) FreezeUnit(name string) *dbus.Error { return o.freeze("FreezeUnit", name, true) }
func (o *object) ThawUnit(name string) *dbus.Error   { return o.freeze("ThawUnit", name, false) }

func (o *object) freeze(method, name string, frozen bool) *dbus.Error {
	leave, err := o.enter(method, name)
	if err != nil {
		return err
	}
	defer leave()
	u, err := o.f.loaded(name)
	switch {
	case err != nil:
		return err
	case u.job != nil:
		return failure("UnitBusy", "Unit has a pending job.")
	case u.active != "active":
		return failure("UnitInactive", "Unit is not active.")
	}
	u.frozen = frozen
	o.f.changed(u)
	return nil
}

// Property is a setting as it comes over the wire.
type Property struct {
	Name  string
	Value dbus.Variant
}

// Auxiliary is a further unit of StartTransientUnit; none is supported.
type Auxiliary struct {
	Name       string
	Properties []Property
}

func (o *object) StartTransientUnit(name, mode string, props []Property, _ []Auxiliary) (dbus.ObjectPath, *dbus.Error) {
	leave, err := o.enter("StartTransientUnit", name, mode)
	if err != nil {
		return "", err
	}
	defer leave()
	f := o.f
	if filepath.Ext(name) != ".scope" || !validUnit(name) {
		return "", failure("Unsupported", "The fake only has transient scopes.")
	}
	if f.units[name] != nil {
		return "", failure("UnitExists", "Unit %s was already loaded or has a fragment file.", name)
	}
	u := &unit{name: name, load: "loaded", active: "inactive", sub: "dead", result: "success", transient: true,
		procs: map[int]bool{}, props: map[string]dbus.Variant{}, conf: map[string][]string{}}
	for _, p := range props {
		u.props[p.Name] = p.Value
	}
	pids, _ := u.props["PIDs"].Value().([]uint32)
	delete(u.props, "PIDs")
	for _, pid := range pids {
		if !f.isProcess(int(pid)) {
			return "", dbus.NewError("org.freedesktop.DBus.Error.UnixProcessIdUnknown", []any{fmt.Sprintf("Process with ID %d does not exist.", pid)})
		}
	}
	if len(pids) == 0 {
		return "", dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{"PIDs= missing"})
	}
	for _, pid := range pids {
		for _, v := range f.units {
			delete(v.procs, int(pid))
		}
		u.procs[int(pid)] = true
	}
	f.units[name] = u
	j, err := f.enqueue("start", name, mode)
	if err != nil {
		return "", err
	}
	f.kick()
	return j.path(), nil
}

// isProcess says whether a pid is one of ours, or of this system.
func (f *Fake) isProcess(pid int) bool {
	for _, u := range f.units {
		if u.procs[pid] || u.mainPID == pid {
			return true
		}
	}
	return syscall.Kill(pid, 0) == nil
}

func (o *object) SetUnitProperties(name string, runtime bool, props []Property) *dbus.Error {
	leave, err := o.enter("SetUnitProperties", name, runtime)
	if err != nil {
		return err
	}
	defer leave()
	u, err := o.f.loaded(name)
	if err != nil {
		return err
	}
	for _, p := range props {
		u.props[p.Name] = p.Value
	}
	return nil
}

type process struct {
	CGroup  string
	PID     uint32
	Command string
}

func (o *object) GetUnitProcesses(name string) ([]process, *dbus.Error) {
	leave, _ := o.enter("")
	defer leave()
	u, err := o.f.loaded(name)
	if err != nil {
		return nil, err
	}
	out := []process{}
	for pid := range u.procs {
		out = append(out, process{"/system.slice/" + name, uint32(pid), strings.Join(u.argv(), " ")})
	}
	slices.SortFunc(out, func(a, b process) int { return int(a.PID) - int(b.PID) })
	return out, nil
}

func (o *object) GetUnitByPID(pid uint32) (dbus.ObjectPath, *dbus.Error) {
	leave, _ := o.enter("")
	defer leave()
	for _, u := range o.f.units {
		if u.procs[int(pid)] {
			return unitPath(u.name), nil
		}
	}
	return "", failure("NoUnitForPID", "PID %d does not belong to any loaded unit.", pid)
}

type listed struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func (o *object) ListUnitsByPatterns(states, patterns []string) ([]listed, *dbus.Error) {
	leave, _ := o.enter("")
	defer leave()
	out := []listed{}
	for _, u := range o.f.sorted() {
		match := len(patterns) == 0
		for _, p := range patterns {
			// a backslash is part of a name, not an escape
			ok, _ := filepath.Match(strings.ReplaceAll(p, `\`, `\\`), u.name)
			match = match || ok
		}
		if !match || len(states) > 0 && !slices.Contains(states, u.active) {
			continue
		}
		l := listed{Name: u.name, Description: u.name, Load: u.load, Active: u.active, Sub: u.sub, Path: unitPath(u.name), JobPath: "/"}
		if u.job != nil {
			l.JobID, l.JobType, l.JobPath = u.job.id, u.job.typ, u.job.path()
		}
		out = append(out, l)
	}
	return out, nil
}
