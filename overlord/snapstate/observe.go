// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/snap"
	"endured/systemd"
)

// Observe finds out what runs of a snap: its services, the scopes that earlier
// refreshes left, and its apps. infos are the descriptions to look for services in.
func (m *Manager) Observe(ctx context.Context, rec *Record, infos ...*snap.Info) (lifecycle.Observed, error) {
	obs := lifecycle.Observed{Services: map[string]lifecycle.Service{}}
	apps := map[string]*snap.App{}
	for _, i := range infos {
		if i == nil {
			continue
		}
		for _, a := range i.Services() {
			if apps[a.Name] == nil {
				apps[a.Name] = a
			}
		}
	}
	for name, a := range apps {
		svc, err := m.observeService(ctx, rec, a)
		if err != nil {
			return obs, err
		}
		if svc != nil {
			obs.Services[name] = *svc
		}
	}
	return obs, m.observeScopes(ctx, rec, &obs)
}

// Generations lists the scopes with what earlier refreshes of a snap left
// running, by app.
func (m *Manager) Generations(ctx context.Context, rec *Record) (map[string][]lifecycle.Generation, error) {
	obs := lifecycle.Observed{Services: map[string]lifecycle.Service{}}
	if err := m.observeScopes(ctx, rec, &obs); err != nil {
		return nil, err
	}
	out := map[string][]lifecycle.Generation{}
	for app, svc := range obs.Services {
		out[app] = svc.Generations
	}
	return out, nil
}

// observeService returns nil when the service has no unit.
func (m *Manager) observeService(ctx context.Context, rec *Record, a *snap.App) (*lifecycle.Service, error) {
	units := append([]string{a.Unit()}, ActivatorUnits(a)...)
	sts, err := m.Systemd.Status(ctx, units...)
	if err != nil {
		return nil, fmt.Errorf("cannot see what runs of snap %q: %w", rec.Name, err)
	}
	st := sts[0]
	if st.LoadState == "not-found" && st.MainPID == 0 {
		return nil, nil
	}
	svc := &lifecycle.Service{
		MainPID:      st.MainPID,
		InvocationID: st.InvocationID,
		Running:      UnitRuns(st),
		HandStopped:  contains(rec.HandStopped, a.Name),
	}
	for _, s := range sts {
		if s.UnitFileState == "enabled" || s.UnitFileState == "enabled-runtime" {
			svc.Enabled = true
		}
	}
	if len(a.ActivatesOn) > 0 && len(units) == 1 {
		svc.Enabled = true // there is nothing to enable: the bus always starts it
	}
	if !svc.Running {
		return svc, nil
	}
	svc.Revision = m.RevisionOf(rec, a.Name, st)
	cg := filepath.Join(m.CgroupRoot, st.ControlGroup)
	if st.ControlGroup != "" {
		pids, err := osutil.PIDsInCgroup(cg)
		if err != nil {
			return nil, fmt.Errorf("cannot list the processes of %s: %w", st.Name, err)
		}
		for _, p := range pids {
			if p != st.MainPID {
				svc.Workers++
			}
		}
		svc.Delegated = hasSubdirs(cg)
	}
	return svc, nil
}

// UnitRuns tells whether processes of the unit exist or it counts as active.
func UnitRuns(st systemd.UnitStatus) bool {
	switch st.ActiveState {
	case "active", "reloading", "deactivating":
		return true
	case "activating":
		// auto-restart is a pause between two processes; a start that waits
		// for the gate has none yet
		return st.MainPID != 0 || st.ControlPID != 0
	}
	return st.MainPID != 0
}

// ActivatorUnits are the units that start the service in its stead.
func ActivatorUnits(a *snap.App) []string {
	var out []string
	for _, s := range a.Sockets {
		out = append(out, s.Unit())
	}
	if a.Timer != "" {
		out = append(out, a.TimerUnit())
	}
	return out
}

// RevisionOf tells which revision a running service was started from: the one
// whose program its main process executes, which it may have put itself into when
// nobody looked; else what was recorded for its invocation, else what its main
// process, or another one of its, got as environment, else the current revision.
func (m *Manager) RevisionOf(rec *Record, app string, st systemd.UnitStatus) snap.Revision {
	if st.MainPID != 0 {
		if rev := m.executes(rec, st.MainPID); !rev.Unset() {
			return rev
		}
	}
	if s, ok := rec.Started[app]; ok && s.InvocationID != "" && s.InvocationID == st.InvocationID {
		return s.Revision
	}
	if st.MainPID != 0 {
		if rev := m.revisionOfPID(rec, st.MainPID); !rev.Unset() {
			return rev
		}
	}
	// no main, or one that says nothing: the others were started from it, too
	pids, err := osutil.PIDsInCgroup(filepath.Join(m.CgroupRoot, st.ControlGroup))
	if err == nil && st.ControlGroup != "" {
		for _, pid := range pids {
			if rev := m.revisionOfPID(rec, pid); !rev.Unset() {
				return rev
			}
		}
	}
	return rec.Current
}

func (m *Manager) revisionOfPID(rec *Record, pid int) snap.Revision {
	if env, err := osutil.Environ(pid); err == nil && env["SNAP_NAME"] == rec.Name {
		if rev, err := snap.ParseRevision(env["SNAP_REVISION"]); err == nil {
			return rev
		}
	}
	return m.executes(rec, pid)
}

// executes returns the revision on whose file system a process's program lies, 0
// if it is none of the snap's.
func (m *Manager) executes(rec *Record, pid int) snap.Revision {
	var exe, above syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d/exe", pid), &exe); err != nil {
		return 0
	}
	for _, e := range rec.Sequence {
		dir := m.Dirs.Mount(rec.Name, e.Revision)
		if syscall.Stat(filepath.Dir(dir), &above) != nil || above.Dev == exe.Dev {
			return 0 // the host's
		}
		var mnt syscall.Stat_t
		if syscall.Stat(dir, &mnt) == nil && mnt.Dev == exe.Dev {
			return e.Revision
		}
	}
	return 0
}

// The two kinds of scopes: survivors of a service's earlier revision, and what
// "snap run" started (a UUID follows the app's name).
var appScope = regexp.MustCompile(`^snap\.([^.]+)\.([^.]+)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.scope$`)
var scopeName = regexp.MustCompile(`^snap\.([^.]+)\.([^.]+)-r(x?[0-9]+)-[^-]+\.scope$`)

// ParseScope tells which app of which snap a scope is of. rev is that of a
// service's survivors, 0 for what "snap run" started.
func ParseScope(unit string) (snapName, app string, rev snap.Revision, ok bool) {
	if g := scopeName.FindStringSubmatch(unit); g != nil {
		rev, err := snap.ParseRevision(g[3])
		return g[1], g[2], rev, err == nil
	}
	if a := appScope.FindStringSubmatch(unit); a != nil {
		return a[1], a[2], 0, true
	}
	return "", "", 0, false
}

func (m *Manager) observeScopes(ctx context.Context, rec *Record, obs *lifecycle.Observed) error {
	scopes, err := m.Systemd.ListUnits(ctx, "snap."+rec.Name+".*.scope")
	if err != nil {
		return fmt.Errorf("cannot list the scopes of snap %q: %w", rec.Name, err)
	}
	for _, sc := range scopes {
		sts, err := m.Systemd.Status(ctx, sc.Name)
		if err != nil {
			return err
		}
		if sts[0].ControlGroup == "" {
			continue
		}
		pids, err := osutil.PIDsInCgroup(filepath.Join(m.CgroupRoot, sts[0].ControlGroup))
		if err != nil {
			return err
		}
		if g := scopeName.FindStringSubmatch(sc.Name); g != nil {
			rev, err := snap.ParseRevision(g[3])
			if err != nil {
				continue
			}
			svc := obs.Services[g[2]]
			svc.Generations = append(svc.Generations, lifecycle.Generation{Unit: sc.Name, Revision: rev, PIDs: pids})
			obs.Services[g[2]] = svc
			continue
		}
		if a := appScope.FindStringSubmatch(sc.Name); a != nil {
			for _, p := range pids {
				obs.Apps = append(obs.Apps, lifecycle.Process{PID: p, App: a[2], Revision: m.revisionOfPID(rec, p)})
			}
		}
	}
	return nil
}

func hasSubdirs(dir string) bool {
	es, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range es {
		if e.IsDir() {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
