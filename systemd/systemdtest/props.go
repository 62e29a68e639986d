// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// unitProps answers for /org/freedesktop/systemd1/unit/*.
type unitProps struct{ f *Fake }

// unescapeBus undoes the escaping of a unit's name in an object path.
func unescapeBus(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '_' && i+2 < len(s) {
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.Write(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func objectOf(msg dbus.Message) string {
	p, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	return path.Base(string(p))
}

func noSuchObject(name string) *dbus.Error {
	return dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"Unknown object '" + name + "'."})
}

// Get implements org.freedesktop.DBus.Properties.
func (p *unitProps) Get(msg dbus.Message, ifc, name string) (dbus.Variant, *dbus.Error) {
	all, err := p.GetAll(msg, ifc)
	if err != nil {
		return dbus.Variant{}, err
	}
	v, ok := all[name]
	if !ok {
		return v, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"Unknown property " + name})
	}
	return v, nil
}

// GetAll implements org.freedesktop.DBus.Properties; "" is all interfaces.
func (p *unitProps) GetAll(msg dbus.Message, ifc string) (map[string]dbus.Variant, *dbus.Error) {
	name := unescapeBus(objectOf(msg))
	if !validUnit(name) {
		return nil, noSuchObject(name)
	}
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	u := p.f.load(name)
	out := map[string]dbus.Variant{}
	if ifc == "" || ifc == unitIfc {
		p.f.unitValues(u, out)
	}
	if ifc == "" || ifc != unitIfc {
		kindValues(u, out)
	}
	return out, nil
}

func (f *Fake) unitValues(u *unit, out map[string]dbus.Variant) {
	set := func(k string, v any) { out[k] = dbus.MakeVariant(v) }
	desc := u.one("Unit.Description")
	if v, ok := u.props["Description"].Value().(string); ok {
		desc = v
	} else if desc == "" {
		desc = u.name
	}
	set("Id", u.name)
	set("Names", []string{u.name})
	set("Description", desc)
	set("LoadState", u.load)
	set("ActiveState", u.active)
	set("SubState", u.sub)
	set("UnitFileState", f.fileState(u))
	set("FragmentPath", u.fragment)
	set("NeedDaemonReload", f.needsReload(u))
	set("Transient", u.transient)
	set("After", u.list("After"))
	set("Requires", u.list("Requires"))
	set("Wants", u.list("Wants"))
	set("InvocationID", append([]byte{}, u.invocation...))
	freezer := "running"
	if u.frozen {
		freezer = "frozen"
	}
	set("FreezerState", freezer)
	set("Job", jobRef(u.job))
}

type ref struct {
	ID   uint32
	Path dbus.ObjectPath
}

func jobRef(j *job) ref {
	if j == nil {
		return ref{0, "/"}
	}
	return ref{j.id, j.path()}
}

func kindValues(u *unit, out map[string]dbus.Variant) {
	for k, v := range u.props {
		out[k] = v
	}
	set := func(k string, v any) { out[k] = dbus.MakeVariant(v) }
	switch u.kind() {
	case "target":
		return
	case "service":
		set("Type", u.typ())
		set("MainPID", uint32(u.mainPID))
		set("ControlPID", uint32(0))
		set("ExecMainPID", uint32(u.execPID))
		set("ExecMainStartTimestampMonotonic", u.execStart)
		set("ExecMainExitTimestampMonotonic", u.execExit)
		set("ActiveExitTimestampMonotonic", u.activeExit)
		set("ExecMainCode", u.execCode)
		set("ExecMainStatus", u.execStat)
		set("NFileDescriptorStore", uint32(u.fdstore))
		set("NRestarts", uint32(u.restarts))
	case "mount":
		set("What", u.one("Mount.What"))
		set("Where", u.one("Mount.Where"))
	}
	set("Result", u.result)
	cg := ""
	if len(u.procs) > 0 {
		cg = "/system.slice/" + u.name
	}
	set("ControlGroup", cg)
}

// jobProps answers for /org/freedesktop/systemd1/job/*.
type jobProps struct{ f *Fake }

// GetAll implements org.freedesktop.DBus.Properties.
func (p *jobProps) GetAll(msg dbus.Message, _ string) (map[string]dbus.Variant, *dbus.Error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	id, _ := strconv.ParseUint(objectOf(msg), 10, 32)
	j := p.f.jobs[uint32(id)]
	if j == nil {
		return nil, noSuchObject(fmt.Sprint(id))
	}
	return map[string]dbus.Variant{
		"Id":      dbus.MakeVariant(j.id),
		"JobType": dbus.MakeVariant(j.typ),
		"State":   dbus.MakeVariant(j.state()),
		"Unit": dbus.MakeVariant(struct {
			Name string
			Path dbus.ObjectPath
		}{j.u.name, unitPath(j.u.name)}),
	}, nil
}

// Get implements org.freedesktop.DBus.Properties.
func (p *jobProps) Get(msg dbus.Message, ifc, name string) (dbus.Variant, *dbus.Error) {
	all, err := p.GetAll(msg, ifc)
	if err != nil {
		return dbus.Variant{}, err
	}
	return all[name], nil
}

// changed sends what may have changed, service first as systemd does.
func (f *Fake) changed(u *unit) {
	own := map[string]dbus.Variant{}
	kindValues(u, own)
	kind := u.kind()
	ifc := "org.freedesktop.systemd1." + strings.ToUpper(kind[:1]) + kind[1:]
	f.emit(unitPath(u.name), propsIfc+".PropertiesChanged", ifc, own, []string{})
	f.emit(unitPath(u.name), propsIfc+".PropertiesChanged", unitIfc, map[string]dbus.Variant{
		"ActiveState": dbus.MakeVariant(u.active),
		"SubState":    dbus.MakeVariant(u.sub),
		"Job":         dbus.MakeVariant(jobRef(u.job)),
	}, []string{})
}
