// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// job is a queued job. A restart becomes a start when its stop half is over.
type job struct {
	id      uint32
	u       *unit
	typ     string
	running bool
}

func (j *job) path() dbus.ObjectPath {
	return dbus.ObjectPath(fmt.Sprintf("%s/job/%d", managerPath, j.id))
}

func (j *job) state() string {
	if j.running {
		return "running"
	}
	return "waiting"
}

func unitPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath(managerPath + "/unit/" + sd.PathBusEscape(name))
}

func validUnit(name string) bool {
	for _, kind := range []string{"service", "socket", "mount", "timer", "target", "scope", "slice", "path"} {
		if base, ok := strings.CutSuffix(name, "."+kind); ok && base != "" && !strings.ContainsAny(name, "/ ") {
			return true
		}
	}
	return false
}

func failure(name, format string, args ...any) *dbus.Error {
	return dbus.NewError("org.freedesktop.systemd1."+name, []any{fmt.Sprintf(format, args...)})
}

// planned is a job of a transaction.
type planned struct {
	u   *unit
	typ string
}

// enqueue makes the jobs that a request needs and returns the requested one.
func (f *Fake) enqueue(verb, name, mode string) (*job, *dbus.Error) {
	if !validUnit(name) {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{"Unit name " + name + " is not valid."})
	}
	u := f.load(name)
	if err := loadable(u, verb); err != nil {
		return nil, err
	}
	var plan []planned
	if err := f.plan(&plan, u, verb, mode); err != nil {
		return nil, err
	}
	if mode == "fail" {
		for _, p := range plan {
			if p.u.job != nil && !mergeable(p.u.job.typ, p.typ) {
				return nil, failure("TransactionIsDestructive", "Transaction for %s/%s is destructive.", name, verb)
			}
		}
	}
	for _, p := range plan {
		f.install(p.u, p.typ)
	}
	return u.job, nil
}

func loadable(u *unit, verb string) *dbus.Error {
	switch {
	case u.load == "not-found" && verb == "stop" && u.active != "inactive":
		return nil
	case u.load == "not-found" && verb == "stop":
		return failure("NoSuchUnit", "Unit %s not loaded.", u.name)
	case u.load == "not-found":
		return failure("NoSuchUnit", "Unit %s not found.", u.name)
	case u.load == "masked" && verb != "stop":
		return failure("UnitMasked", "Unit %s is masked.", u.name)
	}
	return nil
}

// plan adds a job and those that it implies, each unit once.
func (f *Fake) plan(plan *[]planned, u *unit, typ, mode string) *dbus.Error {
	if slices.ContainsFunc(*plan, func(p planned) bool { return p.u == u }) {
		return nil
	}
	*plan = append(*plan, planned{u, typ})
	if strings.HasPrefix(mode, "ignore-") {
		return nil
	}
	if typ == "start" || typ == "restart" {
		for _, name := range slices.Concat(u.list("Requires"), u.list("BindsTo"), u.requires) {
			d := f.load(name)
			if d.active == "active" && (d.job == nil || d.job.typ == "start") {
				continue
			}
			if err := loadable(d, "start"); err != nil {
				return err
			}
			if err := f.plan(plan, d, "start", mode); err != nil {
				return err
			}
		}
		for _, name := range slices.Concat(u.list("Wants"), u.wants) {
			if d := f.load(name); loadable(d, "start") == nil && d.active != "active" {
				if err := f.plan(plan, d, "start", mode); err != nil {
					return err
				}
			}
		}
	}
	if typ == "stop" || typ == "restart" {
		for _, v := range f.sorted() {
			if v.active == "inactive" || v.active == "failed" || !v.dependsOn(u) {
				continue
			}
			if err := f.plan(plan, v, typ, mode); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *unit) dependsOn(d *unit) bool {
	for _, key := range []string{"Requires", "BindsTo", "PartOf"} {
		if slices.Contains(u.list(key), d.name) {
			return true
		}
	}
	return slices.Contains(u.requires, d.name)
}

func (f *Fake) sorted() []*unit {
	return slices.SortedFunc(maps.Values(f.units), func(a, b *unit) int { return strings.Compare(a.name, b.name) })
}

func mergeable(a, b string) bool { return (a == "stop") == (b == "stop") }

// install queues a job, merges it with the unit's, or cancels that one.
func (f *Fake) install(u *unit, typ string) {
	if j := u.job; j != nil && mergeable(j.typ, typ) {
		if j.typ == "start" && typ == "restart" {
			j.typ, j.running = "restart", false
			f.changed(u)
		}
		return
	}
	if u.job != nil {
		f.finish(u.job, "canceled")
	}
	f.lastJob++
	u.job = &job{id: f.lastJob, u: u, typ: typ}
	f.jobs[u.job.id] = u.job
	f.changed(u)
}

// finish removes a job. One that is gone already is left alone.
func (f *Fake) finish(j *job, result string) {
	if j == nil || f.jobs[j.id] != j {
		return
	}
	delete(f.jobs, j.id)
	j.u.job = nil
	f.changed(j.u)
	f.emit(managerPath, managerIfc+".JobRemoved", j.id, j.path(), j.u.name, result)
	if result == "done" || j.typ == "stop" {
		return
	}
	for _, v := range f.sorted() {
		if v.job != nil && v.job.typ != "stop" && !v.job.running &&
			(slices.Contains(v.list("Requires"), j.u.name) || slices.Contains(v.list("BindsTo"), j.u.name)) {
			f.finish(v.job, "dependency")
		}
	}
}

// after says whether u is ordered after v.
func (u *unit) after(v *unit) bool {
	switch {
	case slices.Contains(u.list("After"), v.name), slices.Contains(v.list("Before"), u.name):
		return true
	case v.kind() == "socket" && v.service() == u.name:
		return true
	case u.kind() == "target":
		return slices.Contains(u.wants, v.name) || slices.Contains(u.requires, v.name)
	}
	return false
}

// runnable says whether no job that is ordered before this one is left. Of
// two ordered units, a stop goes first; of two stops, that of the later unit.
// A restart counts as a stop until its stop half is over.
func (f *Fake) runnable(j *job) bool {
	for _, o := range f.jobs {
		if o == j {
			continue
		}
		if j.u.after(o.u) && j.typ == "start" {
			return false
		}
		if o.u.after(j.u) && o.typ != "start" {
			return false
		}
	}
	return true
}

// kick runs all jobs that can run.
func (f *Fake) kick() {
	for again := true; again; {
		again = false
		queue := slices.SortedFunc(maps.Values(f.jobs), func(a, b *job) int { return cmp.Compare(a.id, b.id) })
		for _, j := range queue {
			if f.jobs[j.id] == j && !j.running && f.runnable(j) && f.run(j) {
				again = true
			}
		}
	}
}

// run runs one job and says whether that may have made others runnable.
func (f *Fake) run(j *job) bool {
	u := j.u
	dead := u.active == "inactive" || u.active == "failed" || u.sub == "auto-restart"
	switch {
	case u.stopping:
		return false // looked at again when the stop is over
	case j.typ == "restart" && dead:
		if u.sub == "auto-restart" {
			u.active, u.sub = "inactive", "dead"
		}
		j.typ = "start"
		f.changed(u)
		return true
	case j.typ == "start" && u.active == "active", j.typ == "stop" && u.active != "activating" && dead:
		f.finish(j, "done")
		return true
	case j.typ == "start" && dead && u.load != "loaded":
		f.finish(j, "failed")
		return true
	case j.typ == "start" && !dead:
		j.running = true // it is starting already: the job ends with that
		f.changed(u)
	case j.typ == "start":
		j.running = true
		f.start(u)
	default:
		j.running = true
		f.stop(u)
	}
	return false
}
