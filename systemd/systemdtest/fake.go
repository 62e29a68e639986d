// SPDX-License-Identifier: Apache-2.0

// Package systemdtest is a service manager in memory, that a
// *systemd.Manager talks to over its own wire as it does to PID 1, and the
// suite of behaviours that both must show.
//
// The fake is driven by unit files below a root directory. It models what the
// refresh engine rests on: jobs, their merging and ordering, the gate, reload,
// enablement, processes as numbers. It runs no program unless a hook does.
package systemdtest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"endured/systemd"
)

// Hooks let a test take part. They are called without the fake's lock, may
// block for as long as the job should run, and may be nil.
type Hooks struct {
	// Call is told of each call that changes something, as in Calls, before it
	// takes effect; an error is the answer, and there is no effect.
	Call func(call string) error
	// Start runs as a service starts; an error makes the start fail. Without
	// it a start fails if the command of a Type=exec service exists neither
	// below the root nor on this system.
	Start func(unit string) error
	// Spawn makes the main process of a service and returns its pid. Without
	// it pids are numbers above the kernel's limit.
	Spawn func(unit string, argv []string) (pid int, err error)
	// Stop runs as a service stops, before its processes are gone. An error
	// is a stop that timed out: the unit is failed with Result=timeout.
	Stop func(unit string) error
	// Signal is told of each signal to each process, and says whether the
	// process ends of it. Without it all do, but of CONT, WINCH and CHLD.
	Signal func(unit string, pid int, sig syscall.Signal) bool
	// Mount and Unmount do what a mount unit would do. An error of Unmount
	// leaves it mounted with the job failed.
	Mount, Unmount func(what, where string) error
}

// Fake is the service manager.
type Fake struct {
	root  string
	hooks Hooks

	mu       sync.Mutex
	closed   bool
	units    map[string]*unit
	jobs     map[uint32]*job
	lastJob  uint32
	lastPID  int
	peers    map[*peer]struct{}
	calls    []string
	failNext map[string]error
}

// New returns a service manager whose unit files are below root, in
// etc/systemd/system, run/systemd/system and usr/lib/systemd/system.
func New(root string, h Hooks) *Fake {
	return &Fake{
		root:     root,
		hooks:    h,
		units:    map[string]*unit{},
		jobs:     map[uint32]*job{},
		lastPID:  5_000_000, // above any pid_max
		peers:    map[*peer]struct{}{},
		failNext: map[string]error{},
	}
}

// Dial returns a connection to the fake, for systemd.Options.DialFunc.
func (f *Fake) Dial(context.Context) (net.Conn, error) {
	a, b, err := socketPair()
	if err != nil {
		return nil, err
	}
	f.serve(b)
	return a, nil
}

// Manager returns a client that is closed with the test.
func (f *Fake) Manager(t testing.TB) *systemd.Manager {
	t.Helper()
	m, err := systemd.Dial(t.Context(), systemd.Options{DialFunc: f.Dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(); f.Close() })
	return m
}

// Close drops all connections for good.
func (f *Fake) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.DropConnections()
}

// DropConnections breaks every connection, as a daemon-reexec does on the
// private socket. Clients may dial again.
func (f *Fake) DropConnections() {
	f.mu.Lock()
	peers := slices.Collect(maps.Keys(f.peers))
	clear(f.peers)
	f.mu.Unlock()
	for _, p := range peers {
		p.close()
	}
}

// Calls returns the calls that change something, oldest first, such as
// "StartUnit a.service replace" or "Reload".
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// ResetCalls forgets the calls.
func (f *Fake) ResetCalls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = nil
}

// FailNext makes the next call of a D-Bus method ("Reload", "StartUnit", …)
// fail, without effect.
func (f *Fake) FailNext(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failNext[method] = err
}

// Exit ends the main process of a unit by itself: code is 1 for an exit
// status, 2 for a signal. Restart= applies.
func (f *Fake) Exit(unit string, code, status int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.units[unit]
	if u == nil || u.mainPID == 0 {
		return fmt.Errorf("cannot exit %s: no main process", unit)
	}
	f.mainExited(u, code, status)
	f.kick()
	return nil
}

// AddProcess puts a further process into a unit; 0 stands for a made-up pid.
func (f *Fake) AddProcess(unit string, pid int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pid == 0 {
		pid = f.newPID()
	}
	f.load(unit).procs[pid] = true
	return pid
}

// RemoveProcess takes a process out of whatever unit it is in: it has exited.
func (f *Fake) RemoveProcess(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.units {
		if u.procs[pid] {
			if u.mainPID == pid {
				f.mainExited(u, 1, 0)
			} else {
				delete(u.procs, pid)
			}
			f.emptied(u)
		}
	}
	f.kick()
}

// Processes returns the pids in a unit, main included, sorted.
func (f *Fake) Processes(unit string) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if u := f.units[unit]; u != nil {
		return slices.Sorted(maps.Keys(u.procs))
	}
	return nil
}

// SetFDStore sets how many descriptors a service has stored. A stop loses
// them; a restart does not.
func (f *Fake) SetFDStore(unit string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.load(unit).fdstore = n
}

// Property returns a setting of a transient unit or one made with
// SetUnitProperties, as it came over the wire; nil if there is none.
func (f *Fake) Property(unit, name string) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if u := f.units[unit]; u != nil {
		if v, ok := u.props[name]; ok {
			return v.Value()
		}
	}
	return nil
}

// Connect is a client at a socket unit: its service is started.
func (f *Fake) Connect(socket string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.load(socket)
	if u.active != "active" {
		return fmt.Errorf("cannot connect to %s: %s", socket, u.active)
	}
	if f.load(u.service()).active == "active" {
		return nil
	}
	u.sub = "running"
	f.changed(u)
	_, err := f.enqueue("start", u.service(), "replace")
	f.kick()
	if err != nil {
		return err
	}
	return nil
}

// Reboot ends everything without a stop, empties run/systemd/system, drops
// connections, and starts multi-user.target with what is enabled.
func (f *Fake) Reboot() error {
	f.DropConnections()
	if err := emptyDir(filepath.Join(f.root, "run/systemd/system")); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.units {
		u.seq++ // what is in progress is void
	}
	clear(f.units)
	clear(f.jobs)
	for _, target := range []string{"sockets.target", "timers.target", "multi-user.target"} {
		if _, err := f.enqueue("start", target, "replace"); err != nil {
			return err
		}
	}
	f.kick()
	return nil
}
