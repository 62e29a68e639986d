// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"endured/systemd"
)

func testService(s *suite) {
	u := s.write(runUnits, "a.service", sleeper())
	if st := s.status(u); st.LoadState != "loaded" || st.ActiveState != "inactive" || st.MainPID != 0 || st.Description != "a sleeper" {
		s.Fatalf("before: %+v", st)
	}
	s.run("stop", u) // of a dead unit
	s.run("start", u)
	one := s.active(u, "active")
	if one.MainPID == 0 || one.SubState != "running" || len(one.InvocationID) != 32 || one.Type != "exec" ||
		one.ExecMainStart == 0 || one.ExecMainExit != 0 || one.JobID != 0 || one.Result != "success" || one.ControlGroup == "" {
		s.Fatalf("started: %+v", one)
	}
	s.run("start", u) // of a running unit
	if st := s.status(u); st.InvocationID != one.InvocationID || st.MainPID != one.MainPID {
		s.Fatalf("start disturbed a running unit: %+v", st)
	}
	s.run("restart", u)
	two := s.active(u, "active")
	if two.MainPID == one.MainPID || two.InvocationID == one.InvocationID || two.NRestarts != 0 {
		s.Fatalf("restarted: %+v after %+v", two, one)
	}
	list, err := s.M.ListUnits(s.ctx, s.prefix+"*.service")
	if err != nil || len(list) != 1 || list[0].Name != u || list[0].ActiveState != "active" {
		s.Fatalf("list: %+v, %v", list, err)
	}
	if g := s.glance(u)[0]; g.MainPID != two.MainPID || g.InvocationID != two.InvocationID || g.ControlGroup != two.ControlGroup ||
		g.ActiveState != "active" || g.SubState != "running" || g.LoadState != "loaded" {
		s.Fatalf("at a glance: %+v, looked at: %+v", g, two)
	}
	s.run("stop", u)
	st := s.active(u, "inactive")
	if st.MainPID != 0 {
		s.Fatalf("stopped: %+v", st)
	}
	if g := s.glance(u)[0]; g.ActiveState != "inactive" || g.SubState != "dead" || g.MainPID != 0 {
		s.Fatalf("at a glance: %+v, looked at: %+v", g, st)
	}
}

func testGlance(s *suite) {
	if none := s.glance(); len(none) != 0 {
		s.Fatalf("no units: %+v", none)
	}
	a, b, odd := s.write(runUnits, "a.service", sleeper()), s.write(runUnits, "b.service", sleeper()), s.write(runUnits, `o\x2ad.service`, sleeper())
	s.run("start", a)
	s.run("start", odd)
	got := s.glance(b, s.unit("nowhere.service"), odd, a)
	if len(got) != 4 || got[0].Name != b || got[0].ActiveState != "inactive" || got[1].ActiveState != "inactive" ||
		got[2].Name != odd || got[2].MainPID != s.status(odd).MainPID || got[2].MainPID == 0 ||
		got[3].Name != a || got[3].MainPID != s.status(a).MainPID || got[3].InvocationID != s.status(a).InvocationID {
		s.Fatalf("many at a glance: %+v", got)
	}
	if one := s.glance(odd)[0]; one.MainPID != got[2].MainPID {
		s.Fatalf("one at a glance: %+v", one)
	}
}

// testGlanceMany: dbus-daemon lets a connection have 128 calls unanswered.
func testGlanceMany(s *suite) {
	units := make([]string, 50)
	var wg sync.WaitGroup
	for n := range units {
		units[n] = s.write(runUnits, fmt.Sprintf("l%02d.service", n), sleeper())
		wg.Go(func() {
			if err := s.M.Run(s.ctx, "start", units[n], "replace"); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	for range 5 {
		for _, st := range s.glance(units...) {
			if st.MainPID == 0 || st.InvocationID == "" || st.ControlGroup == "" {
				s.Fatalf("at a glance: %+v", st)
			}
		}
	}
}

func (s *suite) glance(units ...string) []systemd.UnitStatus {
	s.Helper()
	sts, err := s.M.Glance(s.ctx, units...)
	if err != nil {
		s.Fatal(err)
	}
	return sts
}

func testUnknown(s *suite) {
	u := s.unit("nowhere.service")
	st, err := s.M.Status(s.ctx, u, "multi-user.target")
	if err != nil || st[0].Name != u || st[0].LoadState != "not-found" || st[0].ActiveState != "inactive" || st[1].LoadState != "loaded" {
		s.Fatalf("%+v, %v", st, err)
	}
	_, err = s.M.Start(s.ctx, u, "replace")
	s.isErr(err, systemd.ErrNoSuchUnit)
	_, err = s.M.Restart(s.ctx, u, "replace")
	s.isErr(err, systemd.ErrNoSuchUnit)
	_, err = s.M.Stop(s.ctx, u, "replace")
	s.isErr(err, systemd.ErrNoSuchUnit)
	s.isErr(s.M.Kill(s.ctx, u, "main", syscall.SIGTERM), systemd.ErrNoSuchUnit)
	s.isErr(s.M.ResetFailed(s.ctx, u), nil)
	s.isErr(s.M.CancelJob(s.ctx, 4_000_000_000), nil)
	if j, err := s.M.WatchJob(s.ctx, u); j != nil || err != nil {
		s.Fatalf("job %v, %v", j, err)
	}
	if _, err := s.M.Settle(s.ctx, u, false); err != nil {
		s.Fatal(err)
	}
	if changed, err := s.M.Disable(s.ctx, u); changed || err != nil {
		s.Fatalf("disable: %v, %v", changed, err)
	}
	if _, err := s.M.Enable(s.ctx, u); err == nil {
		s.Fatal("enabled a unit without a file")
	}
}

func broken() systemd.Unit {
	return systemd.Unit{{Name: "Service", Options: []opt{{Name: "Type", Value: "exec"}, {Name: "ExecStart", Value: "/nonexistent/command"}}}}
}

func testFailingStart(s *suite) {
	u := s.write(runUnits, "a.service", broken())
	err := s.M.Run(s.ctx, "start", u, "replace")
	var je *systemd.JobError
	if !errors.As(err, &je) || je.Unit != u || je.Verb != "start" || je.Result != systemd.ResultFailed {
		s.Fatalf("start: %v", err)
	}
	if st := s.active(u, "failed"); st.Result != "exit-code" {
		s.Fatalf("%+v", st)
	}
	s.isErr(s.M.ResetFailed(s.ctx, u), nil)
	s.active(u, "inactive")
}

func testDependency(s *suite) {
	bad := s.write(runUnits, "bad.service", broken())
	u := s.write(runUnits, "a.service", sleeper(opt{Name: "Requires", Value: bad}, opt{Name: "After", Value: bad}))
	s.result(s.job("start", u, "replace"), systemd.ResultDependency)
	s.active(u, "inactive")
	s.result(s.job("start", u, "ignore-requirements"), systemd.ResultDone)
}

func testMasked(s *suite) {
	u := s.unit("a.service")
	path := filepath.Join(s.Root, runUnits, u)
	s.files = append(s.files, path)
	os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.Symlink("/dev/null", path); err != nil {
		s.Fatal(err)
	}
	if st := s.status(u); st.LoadState != "masked" {
		s.Fatalf("%+v", st)
	}
	_, err := s.M.Start(s.ctx, u, "replace")
	s.isErr(err, systemd.ErrUnitMasked)
}

func testReload(s *suite) {
	u := s.write(runUnits, "a.service", sleeper())
	s.run("start", u)
	before := s.status(u)
	s.write(runUnits, "a.service", with(sleeper(), "Unit", "Description", "another"))
	if st := s.status(u); !st.NeedDaemonReload || st.Description != "a sleeper" {
		s.Fatalf("before the reload: %+v", st)
	}
	s.reload()
	if st := s.status(u); st.NeedDaemonReload || st.Description != "another" || st.MainPID != before.MainPID || st.InvocationID != before.InvocationID {
		s.Fatalf("after the reload: %+v", st)
	}
}

func testDropIn(s *suite) {
	u := s.write(runUnits, "a.service", sleeper())
	s.run("start", u)
	dir := filepath.Join(s.Root, runUnits, u+".d")
	s.file(filepath.Join(dir, "pin.conf"), []byte("[Unit]\nDescription=pinned\n"))
	s.files = append(s.files, dir)
	s.reload()
	if st := s.status(u); st.Description != "pinned" || st.ActiveState != "active" {
		s.Fatalf("%+v", st)
	}
	if err := os.RemoveAll(dir); err != nil {
		s.Fatal(err)
	}
	s.reload()
	if st := s.status(u); st.Description != "a sleeper" {
		s.Fatalf("%+v", st)
	}
}

func testEnable(s *suite) {
	u := s.write(etcUnits, "a.service", sleeper())
	for _, c := range []struct {
		do      func(context.Context, ...string) (bool, error)
		changed bool
		state   string
	}{
		{s.M.Disable, false, "disabled"}, {s.M.Enable, true, "enabled"}, {s.M.Enable, false, "enabled"},
		{s.M.Disable, true, "disabled"}, {s.M.Disable, false, "disabled"},
	} {
		changed, err := c.do(s.ctx, u)
		if err != nil || changed != c.changed {
			s.Fatalf("changed %v, %v; want %v, %s", changed, err, c.changed, c.state)
		}
		_, err = os.Lstat(filepath.Join(s.Root, etcUnits, "multi-user.target.wants", u))
		if (err == nil) != (c.state == "enabled") {
			s.Fatalf("link: %v; want %s", err, c.state)
		}
		s.reload()
		if st := s.status(u); st.UnitFileState != c.state || s.enabled(u) != (c.state == "enabled") {
			s.Fatalf("state %s, read from its links: %v; want %s", st.UnitFileState, s.enabled(u), c.state)
		}
	}
	s.active(u, "inactive")

	masked := s.unit("m.service")
	for _, link := range []string{filepath.Join(etcUnits, "multi-user.target.wants", masked), filepath.Join(runUnits, masked)} {
		path := filepath.Join(s.Root, link)
		s.files = append(s.files, path)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.Symlink("/dev/null", path); err != nil {
			s.Fatal(err)
		}
	}
	if s.enabled(masked) || s.status(masked).UnitFileState == "enabled" {
		s.Fatal("a masked unit counts as enabled")
	}
}

func (s *suite) enabled(unit string) bool {
	s.Helper()
	all, err := systemd.Enabled(s.Root)
	if err != nil {
		s.Fatal(err)
	}
	return all[unit]
}

func testKill(s *suite) {
	exited := s.write(runUnits, "exited.service", systemd.Unit{{Name: "Service", Options: []opt{
		{Name: "Type", Value: "oneshot"}, {Name: "RemainAfterExit", Value: "yes"}, {Name: "ExecStart", Value: "/bin/true"}}}})
	s.run("start", exited)
	if st := s.active(exited, "active"); st.MainPID != 0 || st.SubState != "exited" || st.ExecMainCode != 1 || st.ExecMainStatus != 0 {
		s.Fatalf("%+v", st)
	}
	s.isErr(s.M.Kill(s.ctx, exited, "main", syscall.SIGTERM), systemd.ErrNoSuchProcess)
	s.isErr(s.M.Kill(s.ctx, exited, "all", syscall.SIGTERM), nil)

	u := s.write(runUnits, "a.service", sleeper())
	s.run("start", u)
	s.isErr(s.M.Kill(s.ctx, u, "main", syscall.SIGKILL), nil)
	st := s.await(u, "failed", func(st systemd.UnitStatus) bool { return st.ActiveState == "failed" })
	if st.ExecMainCode != 2 || st.ExecMainStatus != int(syscall.SIGKILL) || st.Result != "signal" || st.MainPID != 0 || st.ExecMainExit == 0 || st.WasStopped() {
		s.Fatalf("%+v", st)
	}
	s.run("start", u)
	s.isErr(s.M.Kill(s.ctx, u, "main", syscall.SIGTERM), nil)
	st = s.await(u, "inactive", func(st systemd.UnitStatus) bool { return st.ActiveState == "inactive" })
	if st.WasStopped() {
		s.Fatalf("%+v", st)
	}
	// what nothing refers to is forgotten when it is inactive
	s.run("start", s.write(runUnits, "other.service", sleeper(opt{Name: "After", Value: u})))
	s.run("start", u)
	s.run("stop", u)
	if st := s.status(u); !st.WasStopped() {
		s.Fatalf("%+v", st)
	}
}

func testAutoRestart(s *suite) {
	u := s.write(runUnits, "a.service", with(with(sleeper(), "Service", "Restart", "always"), "Service", "RestartSec", "50ms"))
	s.run("start", u)
	before := s.status(u)
	s.isErr(s.M.Kill(s.ctx, u, "main", syscall.SIGTERM), nil)
	s.await(u, "under way", func(st systemd.UnitStatus) bool { return st.NRestarts == 1 || st.MainPID != before.MainPID })
	st, err := s.M.Settle(s.ctx, u, false)
	if err != nil || st.ActiveState != "active" || st.MainPID == before.MainPID || st.InvocationID == before.InvocationID || st.NRestarts != 1 {
		s.Fatalf("%+v, %v", st, err)
	}
	s.run("stop", u)
	s.active(u, "inactive")
}

// process is a child of the test that no unit has started.
func (s *suite) process() int {
	s.Helper()
	cmd := exec.Command("/bin/sleep", "infinity")
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

func testScope(s *suite) {
	u := s.unit("w.scope")
	s.units = append(s.units, u)
	pid := s.process()
	spec := systemd.ScopeSpec{Name: u, Description: "workers", PIDs: []int{pid}, Properties: []systemd.Property{
		{Name: "KillSignal", Value: syscall.SIGINT}, {Name: "TimeoutStopUSec", Value: 5 * time.Second}, {Name: "SendSIGHUP", Value: false},
		{Name: "CollectMode", Value: "inactive-or-failed"}, {Name: "After", Value: []string{"local-fs.target"}}}}
	gone := spec
	gone.Name, gone.PIDs = s.unit("gone.scope"), []int{pid, 4_194_300}
	if j, err := s.M.StartTransientScope(s.ctx, gone); err == nil {
		if r, _ := j.Wait(s.ctx); r == systemd.ResultDone {
			s.Fatal("a scope of a process that does not exist was made")
		}
	}
	j, err := s.M.StartTransientScope(s.ctx, spec)
	if err != nil {
		s.Fatal(err)
	}
	s.result(j, systemd.ResultDone)
	if st := s.active(u, "active"); st.Description != "workers" || st.SubState != "running" {
		s.Fatalf("%+v", st)
	}
	procs, err := s.M.Processes(s.ctx, u)
	if err != nil || !slices.ContainsFunc(procs, func(p systemd.Process) bool { return p.PID == pid }) {
		s.Fatalf("%+v, %v", procs, err)
	}
	if name, err := s.M.UnitOf(s.ctx, pid); name != u || err != nil {
		s.Fatalf("unit of %d: %q, %v", pid, name, err)
	}
	_, err = s.M.StartTransientScope(s.ctx, spec)
	s.isErr(err, systemd.ErrUnitExists)
	s.isErr(s.M.SetProperties(s.ctx, u, true, systemd.Property{Name: "Description", Value: "survivors"}), nil)
	s.run("stop", u)
	s.await(u, "collected", func(st systemd.UnitStatus) bool { return st.LoadState == "not-found" && st.ActiveState == "inactive" })
}

func testPartOf(s *suite) {
	svc := s.write(runUnits, "a.service", sleeper())
	s.run("start", svc)
	scope := s.unit("w.scope")
	s.units = append(s.units, scope)
	j, err := s.M.StartTransientScope(s.ctx, systemd.ScopeSpec{Name: scope, PIDs: []int{s.process()}, Properties: []systemd.Property{
		{Name: "PartOf", Value: []string{svc}}, {Name: "CollectMode", Value: "inactive-or-failed"}}})
	if err != nil {
		s.Fatal(err)
	}
	s.result(j, systemd.ResultDone)
	s.result(s.job("restart", svc, "ignore-requirements"), systemd.ResultDone)
	s.active(scope, "active")
	s.run("stop", svc)
	s.await(scope, "gone", func(st systemd.UnitStatus) bool { return st.LoadState == "not-found" && st.ActiveState == "inactive" })
}

func testFreeze(s *suite) {
	u := s.write(runUnits, "a.service", sleeper())
	s.run("start", u)
	before := s.status(u)
	s.isErr(s.M.Freeze(s.ctx, u), nil)
	if st := s.status(u); st.FreezerState != "frozen" {
		s.Fatalf("%+v", st)
	}
	s.isErr(s.M.Thaw(s.ctx, u), nil)
	if st := s.status(u); st.FreezerState != "running" || st.MainPID != before.MainPID {
		s.Fatalf("%+v", st)
	}
	s.isErr(s.M.Freeze(s.ctx, u), nil)
	s.run("restart", u) // thaws it
	if st := s.active(u, "active"); st.MainPID == before.MainPID {
		s.Fatalf("%+v", st)
	}
	// The kernel's word on the thaw may come after the job's end.
	s.await(u, "thawed", func(st systemd.UnitStatus) bool { return st.FreezerState == "running" })
}

// mount writes the unit of a mount and returns its name.
func (s *suite) mount(where string) string {
	u := systemd.MountUnit(where)
	data, err := systemd.Unit{{Name: "Mount", Options: []opt{
		{Name: "What", Value: "tmpfs"}, {Name: "Where", Value: where}, {Name: "Type", Value: "tmpfs"}}}}.Bytes()
	if err != nil {
		s.Fatal(err)
	}
	s.file(filepath.Join(s.Root, runUnits, u), data)
	s.units = append(s.units, u)
	return u
}

func testMount(s *suite) {
	where := "/run/" + s.prefix
	u := s.mount(where)
	s.run("start", u)
	if st := s.active(u, "active"); st.SubState != "mounted" {
		s.Fatalf("%+v", st)
	}
	s.run("stop", u)
	s.active(u, "inactive")
	if s.Fake == nil {
		os.Remove(where)
	}
}

// testManyMounts: a burst of mounts, at which systemd holds jobs of mounts back
// for a second, keeps no call waiting.
func testManyMounts(s *suite) {
	var wg sync.WaitGroup
	for n := range 20 {
		where := fmt.Sprintf("/run/%s%d", s.prefix, n)
		u := s.mount(where)
		wg.Go(func() {
			for range 4 {
				for _, enqueue := range []func(context.Context, string, string) (*systemd.Job, error){s.M.Start, s.M.Start, s.M.Stop} {
					began := time.Now()
					j, err := enqueue(s.ctx, u, "replace")
					if err != nil {
						s.Error(err)
						return
					}
					if d := time.Since(began); d > 5*time.Second {
						s.Errorf("%s waited %s for an answer", u, d)
					}
					if _, err := j.Wait(s.ctx); err != nil {
						s.Error(err)
					}
				}
			}
			if s.Fake == nil {
				os.Remove(where)
			}
		})
	}
	wg.Wait()
}
