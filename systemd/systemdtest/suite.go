// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"endured/systemd"
)

// Env is a service manager that the suite runs against.
type Env struct {
	M    *systemd.Manager
	Root string // unit files are written below it
	Fake *Fake  // nil for the real one
}

// suite is one test's view: its units have names that no other has.
type suite struct {
	*testing.T
	Env
	ctx    context.Context
	prefix string
	units  []string
	files  []string
}

// RunSuite runs the behaviours that every service manager must show. factory
// is called for each test. With the real service manager it needs root, and
// leaves nothing behind.
func RunSuite(t *testing.T, factory func(t *testing.T) Env) {
	var number atomic.Int32
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"Service", testService}, {"Glance", testGlance}, {"GlanceMany", testGlanceMany}, {"ManyMounts", testManyMounts}, {"Unknown", testUnknown}, {"FailingStart", testFailingStart},
		{"Dependency", testDependency}, {"Reload", testReload}, {"Enable", testEnable},
		{"Kill", testKill}, {"AutoRestart", testAutoRestart}, {"Masked", testMasked},
		{"Gate", testGate}, {"GateCancel", testGateCancel}, {"GateKilled", testGateKilled},
		{"GateSocket", testGateSocket}, {"GateAutoRestart", testGateAutoRestart},
		{"StopWaiting", testStopWaiting}, {"Merge", testMerge}, {"Replace", testReplace},
		{"IgnoreRequirements", testIgnoreRequirements}, {"PartOf", testPartOf},
		{"Scope", testScope}, {"Freeze", testFreeze}, {"Mount", testMount},
		{"Many", testMany}, {"WaitContext", testWaitContext}, {"Reexec", testReexec}, {"DropIn", testDropIn},
		{"FileGone", testFileGone}, {"Ledger", testLedger}, {"LedgerBound", testLedgerBound},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := factory(t)
			if env.Fake != nil {
				t.Parallel() // the real one is shared: a reload is everyone's
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			t.Cleanup(cancel)
			s := &suite{T: t, Env: env, ctx: ctx,
				prefix: fmt.Sprintf("endured-suite-%d-%d", os.Getpid(), number.Add(1))}
			t.Cleanup(s.clean)
			c.run(s)
		})
	}
}

// unit is the full name of a unit of this test.
func (s *suite) unit(name string) string { return s.prefix + "-" + name }

// clean leaves the service manager as it was.
func (s *suite) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, u := range s.units {
		if j, err := s.M.Stop(ctx, u, "replace"); err == nil {
			j.Wait(ctx)
		}
	}
	s.M.Disable(ctx, s.units...)
	for _, f := range s.files {
		os.RemoveAll(f)
	}
	s.M.Reload(ctx)
	for _, u := range s.units {
		s.M.ResetFailed(ctx, u)
	}
}

// write writes a unit file and returns the unit's full name.
func (s *suite) write(dir, name string, u systemd.Unit) string {
	s.Helper()
	data, err := u.Bytes()
	if err != nil {
		s.Fatal(err)
	}
	name = s.unit(name)
	s.file(filepath.Join(s.Root, dir, name), data)
	s.units = append(s.units, name)
	return name
}

func (s *suite) file(path string, data []byte) {
	s.Helper()
	s.files = append(s.files, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	// Renamed over, so that it never is half a file.
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		s.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.Fatal(err)
	}
}

const (
	runUnits = "run/systemd/system"
	etcUnits = "etc/systemd/system"
)

type opt = systemd.Option

// sleeper is a service that runs until it is stopped.
func sleeper(unitOpts ...opt) systemd.Unit {
	return systemd.Unit{
		{Name: "Unit", Options: append([]opt{{Name: "Description", Value: "a sleeper"}}, unitOpts...)},
		{Name: "Service", Options: []opt{{Name: "Type", Value: "exec"}, {Name: "ExecStart", Value: "/bin/sleep infinity"}}},
		{Name: "Install", Options: []opt{{Name: "WantedBy", Value: "multi-user.target"}}},
	}
}

// with adds a setting to a section.
func with(u systemd.Unit, section, key, value string) systemd.Unit {
	for i := range u {
		if u[i].Name == section {
			u[i].Options = append(u[i].Options, opt{Name: key, Value: value})
		}
	}
	return u
}

// gate writes the template of the gate and returns an instance's name.
func (s *suite) gate() string {
	s.write(runUnits, "gate@.service", systemd.Unit{
		{Name: "Unit", Options: []opt{{Name: "StartLimitIntervalSec", Value: "0"}, {Name: "IgnoreOnIsolate", Value: "yes"}}},
		{Name: "Service", Options: []opt{{Name: "Type", Value: "oneshot"}, {Name: "ExecStart", Value: "/bin/sleep infinity"},
			{Name: "TimeoutStartSec", Value: "infinity"}, {Name: "SuccessExitStatus", Value: "SIGTERM"}}},
	})
	s.units = s.units[:len(s.units)-1]
	g := s.unit("gate@foo.service")
	s.units = append(s.units, g)
	return g
}

// arm starts the gate and returns its job, which runs.
func (s *suite) arm(gate string) *systemd.Job {
	s.Helper()
	j, err := s.M.Start(s.ctx, gate, "replace")
	if err != nil {
		s.Fatal(err)
	}
	s.await(gate, "job running", func(st systemd.UnitStatus) bool { return st.JobState == "running" && st.ActiveState == "activating" })
	return j
}

func (s *suite) run(verb, unit string) {
	s.Helper()
	if err := s.M.Run(s.ctx, verb, unit, "replace"); err != nil {
		s.Fatal(err)
	}
}

func (s *suite) status(unit string) systemd.UnitStatus {
	s.Helper()
	st, err := s.M.Status(s.ctx, unit)
	if err != nil {
		s.Fatal(err)
	}
	return st[0]
}

// await waits for a unit to be as said.
func (s *suite) await(unit, what string, ok func(systemd.UnitStatus) bool) systemd.UnitStatus {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	st, err := s.M.WaitUnit(ctx, unit, ok)
	if err != nil {
		s.Fatalf("%s: not %s: %+v: %v", unit, what, st, err)
	}
	return st
}

// job enqueues a start, stop or restart that is not waited for.
func (s *suite) job(verb, unit, mode string) *systemd.Job {
	s.Helper()
	f := map[string]func(context.Context, string, string) (*systemd.Job, error){
		"start": s.M.Start, "stop": s.M.Stop, "restart": s.M.Restart}[verb]
	j, err := f(s.ctx, unit, mode)
	if err != nil {
		s.Fatal(err)
	}
	return j
}

func (s *suite) result(j *systemd.Job, want string) {
	s.Helper()
	got, err := j.Wait(s.ctx)
	if err != nil || got != want {
		s.Fatalf("%s of %s: result %q, %v; want %q", j.Verb, j.Unit, got, err, want)
	}
}

// active checks the state of a unit.
func (s *suite) active(unit, active string) systemd.UnitStatus {
	s.Helper()
	st := s.status(unit)
	if st.ActiveState != active {
		s.Fatalf("%s is %s (%s), want %s", unit, st.ActiveState, st.SubState, active)
	}
	return st
}

// isErr checks the kind of an error.
func (s *suite) isErr(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error %v, want %v", err, want)
	}
}

// reload is needed for units that PID 1 has in memory.
func (s *suite) reload() {
	s.Helper()
	if err := s.M.Reload(s.ctx); err != nil {
		s.Fatal(err)
	}
}

// connect opens a socket that a unit listens on; it does not wait for accept.
func (s *suite) connect(unit, path string) {
	s.Helper()
	if s.Fake != nil {
		if err := s.Fake.Connect(unit); err != nil {
			s.Fatal(err)
		}
		return
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { c.Close() })
}
