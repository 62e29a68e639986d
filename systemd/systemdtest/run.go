// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func now() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano() / 1000)
}

func (f *Fake) newPID() int {
	f.lastPID++
	return f.lastPID
}

// start begins a start; what it leads to is applied when the hooks return.
func (f *Fake) start(u *unit) {
	u.seq++
	seq := u.seq
	u.active, u.sub, u.result = "activating", "start", "success"
	u.invocation = make([]byte, 16)
	rand.Read(u.invocation)
	f.changed(u)
	kind, typ, argv := u.kind(), u.typ(), u.argv()
	what, where := u.one("Mount.What"), u.one("Mount.Where")
	mounted := make(chan struct{})
	u.mounting = mounted
	go func() {
		var pid int
		var err error
		switch kind {
		case "service":
			pid, err = f.startService(u.name, typ, argv)
		case "mount":
			if f.hooks.Mount != nil {
				err = f.hooks.Mount(what, where)
			}
		}
		close(mounted)
		f.mu.Lock()
		defer f.mu.Unlock()
		if u.seq == seq {
			f.started(u, pid, err)
			f.kick()
		}
	}()
}

func (f *Fake) startService(name, typ string, argv []string) (int, error) {
	if f.hooks.Start != nil {
		if err := f.hooks.Start(name); err != nil {
			return 0, err
		}
	} else if typ == "exec" && len(argv) > 0 && !exists(f.root+argv[0]) && !exists(argv[0]) {
		return 0, fmt.Errorf("no such file %s", argv[0])
	}
	if f.hooks.Spawn != nil {
		return f.hooks.Spawn(name, argv)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newPID(), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// started applies the end of a start.
func (f *Fake) started(u *unit, pid int, err error) {
	if err != nil {
		u.active, u.sub, u.result = "failed", "failed", "exit-code"
		f.finishStart(u, "failed")
		return
	}
	u.active, u.sub = "active", "active"
	switch u.kind() {
	case "service":
		u.mainPID, u.execPID, u.execStart, u.execExit, u.execCode, u.execStat = pid, pid, now(), 0, 0, 0
		u.procs[pid] = true
		u.sub = "running"
		if u.typ() == "oneshot" {
			u.active, u.sub = "activating", "start"
			if slices.Equal(tail(u.argv(), 1), []string{"infinity"}) {
				f.changed(u)
				return // the job ends with the process
			}
			f.mainExited(u, 1, 0)
			return
		}
		f.sockets(u, "running")
	case "mount":
		u.sub = "mounted"
	case "socket":
		u.sub = "listening"
		if f.load(u.service()).active == "active" {
			u.sub = "running"
		}
	case "timer", "path":
		u.sub = "waiting"
	case "scope":
		u.sub = "running"
	}
	f.finishStart(u, "done")
}

func tail(s []string, n int) []string { return s[max(0, len(s)-n):] }

// finishStart announces the new state, and ends a start job if there is one.
func (f *Fake) finishStart(u *unit, result string) {
	f.changed(u)
	if u.job != nil && u.job.typ == "start" && u.job.running {
		f.finish(u.job, result)
	}
}

// stop begins a stop.
func (f *Fake) stop(u *unit) {
	u.seq++
	seq := u.seq
	u.stopping, u.frozen, u.activeExit = true, false, now()
	u.active, u.sub = "deactivating", "stop-sigterm"
	f.changed(u)
	name, kind := u.name, u.kind()
	what, where := u.one("Mount.What"), u.one("Mount.Where")
	sig, pids, mounting := u.killSignal(), f.victims(u), u.mounting
	go func() {
		var err error
		if kind == "mount" && mounting != nil {
			<-mounting // a stop waits for the program that mounts
		}
		switch {
		case kind == "mount" && f.hooks.Unmount != nil:
			err = f.hooks.Unmount(what, where)
		case kind == "service" && f.hooks.Stop != nil:
			err = f.hooks.Stop(name)
		}
		if f.hooks.Signal != nil {
			for _, pid := range pids {
				if !f.hooks.Signal(name, pid, sig) {
					f.hooks.Signal(name, pid, syscall.SIGKILL)
				}
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if u.seq == seq {
			f.stopped(u, err)
			f.kick()
		}
	}()
}

// killSignal is KillSignal=, from a file or from a property.
func (u *unit) killSignal() syscall.Signal {
	if n, ok := u.props["KillSignal"].Value().(int32); ok {
		return syscall.Signal(n)
	}
	if s := unix.SignalNum(u.one("Service.KillSignal")); s != 0 {
		return s
	}
	return syscall.SIGTERM
}

// victims are the processes that a stop ends.
func (f *Fake) victims(u *unit) []int {
	var out []int
	for pid := range u.procs {
		if pid == u.mainPID || u.one("Service.KillMode") != "process" {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out
}

// stopped applies the end of a stop.
func (f *Fake) stopped(u *unit, err error) {
	u.stopping = false
	if err != nil && u.kind() == "mount" {
		u.active, u.sub, u.result = "active", "mounted", "exit-code"
		f.changed(u)
		f.finish(u.job, "failed")
		return
	}
	for _, pid := range f.victims(u) {
		delete(u.procs, pid)
	}
	if u.mainPID != 0 {
		delete(u.procs, u.mainPID)
		u.mainPID, u.execExit, u.execCode, u.execStat = 0, now(), 2, int32(u.killSignal())
	}
	u.active, u.sub = "inactive", "dead"
	if err != nil {
		u.active, u.sub, u.result = "failed", "failed", "timeout"
	}
	j := u.job
	if j == nil || j.typ == "stop" {
		u.fdstore = 0
	}
	f.sockets(u, "listening")
	switch {
	case j == nil:
		f.changed(u)
	case j.typ == "restart":
		j.typ, j.running = "start", false
		f.changed(u)
	case j.typ == "stop":
		f.changed(u)
		f.finish(j, "done")
	}
	f.emptied(u)
}

// mainExited applies the end of the main process by itself. As with PID 1,
// what else is in the unit goes too unless KillMode=process.
func (f *Fake) mainExited(u *unit, code, status int) {
	delete(u.procs, u.mainPID)
	if u.stopping {
		u.mainPID, u.execExit, u.execCode, u.execStat = 0, now(), int32(code), int32(status)
		f.changed(u)
		return // the stop goes on
	}
	for _, pid := range f.victims(u) {
		delete(u.procs, pid)
	}
	u.seq++
	u.mainPID, u.execExit, u.execCode, u.execStat = 0, now(), int32(code), int32(status)
	u.activeExit = u.execExit
	clean := code == 1 && status == 0 || code == 2 && slices.Contains(
		[]syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE}, syscall.Signal(status))
	starting := u.active == "activating"
	u.active, u.sub, u.result = "inactive", "dead", "success"
	switch {
	case clean && starting && isTrue(u.one("Service.RemainAfterExit")):
		u.active, u.sub = "active", "exited"
	case !clean:
		u.active, u.sub, u.result = "failed", "failed", "exit-code"
		if code != 1 {
			u.result = "signal"
		}
	}
	f.sockets(u, "listening")
	if starting {
		result := "done"
		if !clean {
			result = "failed"
		}
		f.finishStart(u, result)
		return
	}
	f.changed(u)
	restart := u.one("Service.Restart")
	if u.active != "active" && u.job == nil && (restart == "always" || restart == "on-success" && clean ||
		!clean && slices.Contains([]string{"on-failure", "on-abnormal", "on-abort"}, restart)) {
		u.active, u.sub = "activating", "auto-restart"
		u.restarts++
		f.changed(u)
		f.install(u, "restart")
		return
	}
	u.fdstore = 0
}

func isTrue(s string) bool {
	return slices.Contains([]string{"1", "yes", "true", "on"}, strings.ToLower(s))
}

// sockets follows a service in the sockets that activate it.
func (f *Fake) sockets(service *unit, sub string) {
	for _, s := range f.units {
		if s.kind() == "socket" && s.active == "active" && s.service() == service.name && s.sub != sub {
			s.sub = sub
			f.changed(s)
		}
	}
}

// emptied unloads a scope without processes.
func (f *Fake) emptied(u *unit) {
	if u.kind() != "scope" || len(u.procs) > 0 || u.active == "activating" {
		return
	}
	u.active, u.sub = "inactive", "dead"
	f.changed(u)
	f.finish(u.job, "done")
	delete(f.units, u.name)
}

func emptyDir(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := os.RemoveAll(file); err != nil {
			return err
		}
	}
	return nil
}
