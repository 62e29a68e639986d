// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"endured/systemd"
)

func behind(gate string) systemd.Unit { return sleeper(opt{Name: "After", Value: gate}) }

func waiting(st systemd.UnitStatus) bool { return st.JobState == "waiting" }

// heldStart waits until the start half of a job is held, with nothing running.
func heldStart(st systemd.UnitStatus) bool {
	return waiting(st) && st.JobType == "start" && st.ActiveState == "inactive"
}

func testGate(s *suite) {
	gate := s.gate()
	a := s.write(runUnits, "a.service", behind(gate))
	b := s.write(runUnits, "b.service", behind(gate))
	c := s.write(runUnits, "c.service", behind(gate))
	s.run("start", a)
	s.run("start", b)
	before := s.status(a)
	gj := s.arm(gate)

	s.run("stop", b) // proceeds
	s.active(b, "inactive")
	restart := s.job("restart", a, "ignore-requirements")
	start := s.job("start", c, "replace")
	s.await(a, "held", heldStart)
	s.await(c, "held", heldStart)
	st, err := s.M.Settle(s.ctx, a, true)
	if err != nil || st.JobID != restart.ID || st.MainPID != 0 {
		s.Fatalf("settle: %+v, %v", st, err)
	}
	short, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.M.Settle(short, c, false); !errors.Is(err, context.DeadlineExceeded) {
		s.Fatalf("a held start has settled: %v", err)
	}
	s.reload()
	s.await(a, "held over a reload", heldStart)
	if restart.Result() != "" || start.Result() != "" || gj.Result() != "" {
		s.Fatal("a job has ended behind the gate")
	}
	w, err := s.M.WatchJob(s.ctx, c)
	if err != nil || w.ID != start.ID {
		s.Fatalf("watch: %+v, %v", w, err)
	}

	s.run("stop", gate)
	s.result(gj, systemd.ResultCanceled)
	s.result(restart, systemd.ResultDone)
	s.result(start, systemd.ResultDone)
	s.result(w, systemd.ResultDone)
	if st := s.active(a, "active"); st.MainPID == before.MainPID || st.InvocationID == before.InvocationID {
		s.Fatalf("%+v", st)
	}
	s.active(b, "inactive")
	s.active(gate, "inactive")
}

func testGateCancel(s *suite) {
	gate := s.gate()
	a := s.write(runUnits, "a.service", behind(gate))
	gj := s.arm(gate)
	start := s.job("start", a, "replace")
	s.await(a, "held", heldStart)
	s.isErr(s.M.CancelJob(s.ctx, gj.ID), nil)
	s.result(gj, systemd.ResultCanceled)
	s.result(start, systemd.ResultDone)
	if st := s.active(gate, "activating"); st.JobID != 0 {
		s.Fatalf("%+v", st)
	}
	// Armed again, the fence is back although the gate never stopped.
	gj = s.arm(gate)
	restart := s.job("restart", a, "replace")
	s.await(a, "held", heldStart)
	s.run("stop", gate)
	s.result(gj, systemd.ResultCanceled)
	s.result(restart, systemd.ResultDone)
}

func testGateKilled(s *suite) {
	gate := s.gate()
	a := s.write(runUnits, "a.service", behind(gate))
	gj := s.arm(gate)
	start := s.job("start", a, "replace")
	s.await(a, "held", heldStart)
	s.isErr(s.M.Kill(s.ctx, gate, "all", syscall.SIGKILL), nil)
	s.result(gj, systemd.ResultFailed)
	s.result(start, systemd.ResultDone)
}

func testGateSocket(s *suite) {
	gate := s.gate()
	path := filepath.Join("/run", s.prefix+".socket")
	sock := s.write(runUnits, "a.socket", systemd.Unit{{Name: "Socket", Options: []opt{{Name: "ListenStream", Value: path}}}})
	svc := s.write(runUnits, "a.service", behind(gate))
	s.run("start", sock)
	if st := s.active(sock, "active"); st.SubState != "listening" {
		s.Fatalf("%+v", st)
	}
	gj := s.arm(gate)
	s.connect(sock, path)
	s.await(svc, "held", heldStart)
	if st := s.active(sock, "active"); st.SubState != "running" {
		s.Fatalf("%+v", st)
	}
	s.run("stop", gate)
	s.result(gj, systemd.ResultCanceled)
	s.await(svc, "active", func(st systemd.UnitStatus) bool { return st.ActiveState == "active" })
	s.run("stop", sock)
	if s.Fake == nil {
		os.Remove(path)
	}
}

func testGateAutoRestart(s *suite) {
	gate := s.gate()
	u := s.write(runUnits, "a.service", with(with(behind(gate), "Service", "Restart", "always"), "Service", "RestartSec", "10ms"))
	s.run("start", u)
	gj := s.arm(gate)
	s.isErr(s.M.Kill(s.ctx, u, "main", syscall.SIGTERM), nil)
	s.await(u, "held", func(st systemd.UnitStatus) bool { return waiting(st) && st.MainPID == 0 })
	st, err := s.M.Settle(s.ctx, u, true)
	if err != nil || st.MainPID != 0 || st.ActiveState == "active" {
		s.Fatalf("settle: %+v, %v", st, err)
	}
	s.run("stop", gate)
	s.result(gj, systemd.ResultCanceled)
	if st, err = s.M.Settle(s.ctx, u, false); err != nil || st.ActiveState != "active" {
		s.Fatalf("after release: %+v, %v", st, err)
	}
}

func testStopWaiting(s *suite) {
	gate := s.gate()
	u := s.write(runUnits, "a.service", behind(gate))
	s.run("start", u)
	s.arm(gate)
	restart := s.job("restart", u, "ignore-requirements")
	s.await(u, "held", heldStart)
	s.run("stop", u)
	s.result(restart, systemd.ResultCanceled)
	s.run("stop", gate)
	s.active(u, "inactive")
}

func testMerge(s *suite) {
	gate := s.gate()
	u := s.write(runUnits, "a.service", behind(gate))
	s.run("start", u)
	s.arm(gate)
	one := s.job("restart", u, "replace")
	s.await(u, "held", heldStart)
	two := s.job("restart", u, "replace")
	three := s.job("start", u, "replace")
	if one.ID != two.ID || one.ID != three.ID {
		s.Fatalf("jobs %d, %d, %d", one.ID, two.ID, three.ID)
	}
	s.run("stop", gate)
	for _, j := range []*systemd.Job{one, two, three} {
		s.result(j, systemd.ResultDone)
	}
}

func testReplace(s *suite) {
	gate := s.gate()
	u := s.write(runUnits, "a.service", behind(gate))
	s.arm(gate)
	start := s.job("start", u, "replace")
	s.await(u, "held", heldStart)
	if _, err := s.M.Stop(s.ctx, u, "fail"); err == nil {
		s.Fatal("mode fail replaced a job")
	}
	s.run("stop", u)
	s.result(start, systemd.ResultCanceled)
	s.run("stop", gate)
}

func testIgnoreRequirements(s *suite) {
	u := s.write(runUnits, "a.service", sleeper())
	user := s.write(runUnits, "user.service", sleeper(opt{Name: "Requires", Value: u}, opt{Name: "After", Value: u}))
	s.run("start", user)
	s.active(u, "active")
	before := s.status(user)
	s.result(s.job("restart", u, "ignore-requirements"), systemd.ResultDone)
	if st := s.active(user, "active"); st.InvocationID != before.InvocationID {
		s.Fatal("a unit that requires the restarted one was restarted")
	}
	s.result(s.job("restart", u, "replace"), systemd.ResultDone)
	st, err := s.M.Settle(s.ctx, user, false)
	if err != nil || st.ActiveState != "active" || st.InvocationID == before.InvocationID {
		s.Fatalf("%+v, %v", st, err)
	}
	s.result(s.job("stop", u, "ignore-requirements"), systemd.ResultDone)
	s.active(user, "active")
	s.run("start", u)
	s.run("stop", u)
	s.await(user, "stopped", func(st systemd.UnitStatus) bool { return st.ActiveState == "inactive" })
}

func testMany(s *suite) {
	var wg sync.WaitGroup
	for i := range 20 {
		u := s.write(runUnits, fmt.Sprintf("m%d.service", i), sleeper())
		wg.Go(func() {
			for _, verb := range []string{"start", "restart", "stop"} {
				if err := s.M.Run(s.ctx, verb, u, "replace"); err != nil {
					s.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func testWaitContext(s *suite) {
	gate := s.gate()
	gj := s.arm(gate)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := gj.Wait(ctx); !errors.Is(err, context.Canceled) {
		s.Fatalf("wait: %v", err)
	}
	if j, err := s.M.WatchJob(s.ctx, gate); err != nil || j == nil || j.ID != gj.ID {
		s.Fatalf("the job did not outlive the wait: %v, %v", j, err)
	}
	s.run("stop", gate)
}

func testReexec(s *suite) {
	gate := s.gate()
	u := s.write(runUnits, "a.service", behind(gate))
	gj := s.arm(gate)
	start := s.job("start", u, "replace")
	s.await(u, "held", heldStart)
	s.isErr(s.M.Reexecute(s.ctx), nil)
	s.await(u, "held over a reexec", heldStart)
	if gj.Result() != "" || start.Result() != "" {
		s.Fatalf("jobs have ended: %q, %q", gj.Result(), start.Result())
	}
	s.run("stop", gate)
	s.result(gj, systemd.ResultCanceled)
	s.result(start, systemd.ResultDone)
	s.active(u, "active")
}

// testFileGone: without its file a unit has no After= either, so a held start
// is let go, and fails.
func testFileGone(s *suite) {
	gate := s.gate()
	u := s.write(runUnits, "a.service", behind(gate))
	gj := s.arm(gate)
	start := s.job("start", u, "replace")
	s.await(u, "held", heldStart)
	path := filepath.Join(s.Root, runUnits, u)
	if err := os.Rename(path, path+".away"); err != nil {
		s.Fatal(err)
	}
	s.files = append(s.files, path+".away")
	s.reload()
	s.result(start, systemd.ResultFailed)
	s.active(u, "inactive")
	if gj.Result() != "" {
		s.Fatal("the gate has ended")
	}
}
