// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"endured/dirs"
	"endured/osutil/treecopy"
	"endured/overlord"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/store"
	"endured/systemd"
	"endured/systemd/systemdtest"
)

// The services of the sample snap. "v3" has one more, "v4" and "v5"
// lack the enduring one.
const (
	svc    = "snap.demo.svc.service"
	keeper = "snap.demo.keeper.service"
	web    = "snap.demo.web.service"
	socket = "snap.demo.web.http.socket"
	extra  = "snap.demo.extra.service"
	gate   = "snapd-refresh-gate@demo.service"
)

const (
	yamlHead   = "name: demo\nversion: %s\nsummary: s\ndescription: d\napps:\n  tool: {command: bin/run}\n  svc: {command: bin/run, daemon: simple}\n"
	yamlWeb    = "  web:\n    command: bin/run\n    daemon: simple\n    plugs: [network-bind]\n    sockets: {http: {listen-stream: $SNAP_COMMON/web.sock}}\n"
	yamlKeeper = "  keeper: {command: bin/run, daemon: simple, refresh-mode: endure}\n"
	yamlExtra  = "  extra: {command: bin/run, daemon: simple, after: [svc], stop-command: bin/run stop}\n  gadget: {command: bin/run}\n"
)

// library holds packed versions of the sample snap, and their trees by hash.
type library struct {
	dir   string
	trees map[string]string
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	l := &library{dir: tempDir(t), trees: map[string]string{}}
	var packing sync.WaitGroup
	var mu sync.Mutex
	for version, parts := range map[string]string{
		"v1": yamlWeb + yamlKeeper, "v2": yamlWeb + yamlKeeper, "v3": yamlWeb + yamlKeeper + yamlExtra, "v4": yamlWeb, "v5": yamlWeb,
	} {
		packing.Go(func() {
			tree := filepath.Join(l.dir, version)
			write(t, tree, "meta/snap.yaml", fmt.Sprintf(yamlHead, version)+parts, 0o644)
			write(t, tree, "bin/run", "#!/bin/sh\nexec sleep 1000\n", 0o755)
			if _, err := snap.Pack(t.Context(), tree, l.dir, snap.PackOptions{Filename: version + ".snap", Compression: "gzip"}); err != nil {
				t.Error(err)
				return
			}
			sum, _, err := snap.HashFile(t.Context(), l.file(version))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			l.trees[sum] = tree
		})
	}
	packing.Wait()
	if t.Failed() {
		t.FailNow()
	}
	l.shelve(t)
	return l
}

func (l *library) file(version string) string { return filepath.Join(l.dir, version+".snap") }

// tempDir is a directory in memory where there is one: the suite commits
// thousands of transactions, and what the disk does is not what it is about.
func tempDir(t *testing.T) string {
	t.Helper()
	if fi, err := os.Stat("/dev/shm"); err != nil || !fi.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "overlord-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := treecopy.Remove(context.Background(), dir); err != nil { // what is sealed, too
			t.Error(err)
		}
	})
	return dir
}

func write(t testing.TB, dir, name, data string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), mode)); err != nil {
		t.Fatal(err)
	}
}

// machine is a root directory with a service manager and, between start and
// stop, a daemon.
type machine struct {
	t     *testing.T
	where string // before each message
	lib   *library
	root  string
	dirs  dirs.Dirs
	fake  *systemdtest.Fake
	sd    *systemd.Manager
	o     *overlord.Overlord

	// reaps has revisions discarded by themselves, from the next start on.
	reaps bool

	mu     sync.Mutex
	procs  map[int]*process
	lastID int
	boots  int
	broken func(unit, rev string) error // of a start
	onCall func(call string) error
	fault  func(point string)
}

// process is a real child, so that its environment tells its revision and its
// end can be waited for.
type process struct {
	cmd  *exec.Cmd
	unit string
	gone chan struct{}
}

func newMachine(t *testing.T, lib *library) *machine {
	t.Helper()
	root := tempDir(t)
	m := &machine{t: t, lib: lib, root: root, dirs: dirs.New(root), procs: map[int]*process{}, lastID: 6_000_000}
	template, err := os.ReadFile("../data/systemd/snapd-refresh-gate@.service")
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.dirs.SystemUnits(), "snapd-refresh-gate@.service", string(template), 0o644)
	for _, d := range []string{m.dirs.Units(), m.dirs.Under("/usr/lib/tmpfiles.d"), m.dirs.Under("/etc/tmpfiles.d")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.fake = systemdtest.New(root, systemdtest.Hooks{
		Call: m.called, Spawn: m.spawn, Signal: m.signal, Mount: m.mount, Unmount: m.unmount,
	})
	t.Cleanup(m.cleanup)
	m.start()
	return m
}

// start is a daemon's start.
func (m *machine) start() {
	m.t.Helper()
	var err error
	if m.sd, err = systemd.Dial(m.t.Context(), systemd.Options{DialFunc: m.fake.Dial}); err != nil {
		m.t.Fatal(err)
	}
	m.o, err = overlord.New(overlord.Config{
		Dirs: m.dirs, Systemd: m.sd, Log: slog.New(slog.DiscardHandler),
		CgroupRoot: filepath.Join(m.root, "cgroup"), BootID: fmt.Sprint("boot-", m.boots), FaultHook: m.faulted,
		Store: store.NewDir(func() string { return m.lib.dir }), NoReaper: !m.reaps,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.o.Start(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

// stop is a daemon's end. Whatever it does at that moment fails, and is not
// recorded.
func (m *machine) stop() {
	m.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- m.o.Stop() }()
	var err error
	select {
	case err = <-ended:
		m.sd.Close()
	case <-time.After(20 * time.Millisecond): // it does something that it will not be kept from
		m.sd.Close()
		err = <-ended
	}
	if err != nil {
		m.t.Error(err)
	}
	m.o = nil
}

// reboot is what a loss of power leaves, and the boot after it. The daemon is
// down, and is started like the rest by the caller.
func (m *machine) reboot() {
	m.t.Helper()
	m.mu.Lock()
	left := m.procs
	m.procs = map[int]*process{}
	m.mu.Unlock()
	for _, p := range left {
		p.cmd.Process.Kill()
		<-p.gone
	}
	mounts, err := filepath.Glob(m.dirs.Snaps() + "/demo/*/*") // what is mounted; "current" is a link
	if err != nil {
		m.t.Fatal(err)
	}
	for _, d := range append(mounts, m.dirs.Under("/run")) {
		if err := os.RemoveAll(d); err != nil {
			m.t.Fatal(err)
		}
	}
	m.boots++
	if err := m.fake.Reboot(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) cleanup() {
	m.hook(nil, nil, nil)
	if m.o != nil {
		m.stop()
	}
	m.fake.Close()
	m.mu.Lock()
	left := m.procs
	m.mu.Unlock()
	for _, p := range left {
		p.cmd.Process.Kill()
		<-p.gone
	}
}

// hook sets what the next starts, calls and fault points meet.
func (m *machine) hook(broken func(unit, rev string) error, onCall func(call string) error, fault func(point string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken, m.onCall, m.fault = broken, onCall, fault
}

func (m *machine) called(call string) error {
	if f := strings.Fields(call); f[0] == "StartUnit" && strings.HasSuffix(f[1], ".mount") {
		parts := strings.Split(strings.TrimSuffix(f[1], ".mount"), "-")
		where := filepath.Join(append([]string{m.root}, parts...)...)
		if there, _ := os.ReadDir(where); len(there) > 0 {
			return fmt.Errorf("%s is mounted, and its loop device never appears", where) // as systemd without udev
		}
	}
	m.mu.Lock()
	f := m.onCall
	m.mu.Unlock()
	if f != nil {
		return f(call)
	}
	return nil
}

func (m *machine) faulted(point string) {
	m.mu.Lock()
	f := m.fault
	m.mu.Unlock()
	if f != nil {
		f(point)
	}
}

func (m *machine) spawn(unit string, argv []string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(argv) == 0 || !strings.HasPrefix(argv[0], "/snap/") {
		m.lastID++
		return m.lastID, nil
	}
	parts := strings.Split(argv[0], "/")
	if _, err := os.Stat(m.root + argv[0]); err != nil {
		return 0, err
	}
	if m.broken != nil {
		if err := m.broken(unit, parts[3]); err != nil {
			return 0, err
		}
	}
	cmd := exec.Command("sleep", "1000")
	cmd.Env = []string{"SNAP_NAME=" + parts[2], "SNAP_REVISION=" + parts[3]}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	p := &process{cmd: cmd, unit: unit, gone: make(chan struct{})}
	m.procs[cmd.Process.Pid] = p
	go func() {
		cmd.Wait()
		close(p.gone)
	}()
	return cmd.Process.Pid, nil
}

func (m *machine) signal(_ string, pid int, _ syscall.Signal) bool {
	m.mu.Lock()
	p := m.procs[pid]
	delete(m.procs, pid)
	m.mu.Unlock()
	if p != nil {
		p.cmd.Process.Kill()
		<-p.gone
	}
	return true
}

func (m *machine) mount(what, where string) error {
	sum, _, err := snap.HashFile(context.Background(), m.root+what)
	if err != nil {
		return err
	}
	tree := m.lib.trees[sum]
	if tree == "" {
		return fmt.Errorf("%s is no known snap", what)
	}
	return os.CopyFS(m.root+where, os.DirFS(tree))
}

func (m *machine) unmount(_, where string) error {
	es, err := os.ReadDir(m.root + where)
	for _, e := range es {
		err = errors.Join(err, os.RemoveAll(filepath.Join(m.root+where, e.Name())))
	}
	return err
}

// install hands a version over as a client does, and returns the change.
func (m *machine) install(version string) (string, error) {
	m.t.Helper()
	data, err := os.ReadFile(m.lib.file(version))
	if err != nil {
		m.t.Fatal(err)
	}
	f, err := os.CreateTemp(m.dirs.Blobs(), snapstate.SpoolPrefix)
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		m.t.Fatal(err)
	}
	return m.o.InstallFile(m.t.Context(), f.Name(), recipes.InstallOptions{Name: version + ".snap", Flags: snapstate.Flags{Dangerous: true}})
}

// wait returns how the change ended and what it says.
func (m *machine) wait(id string) (status state.Status, msg string) {
	m.t.Helper()
	ctx, stop := context.WithTimeout(m.t.Context(), 40*time.Second)
	defer stop()
	if err := m.o.State().WaitChange(ctx, id); err != nil {
		buf := make([]byte, 1<<20)
		m.t.Fatalf("%v\n%s\n%s", err, m.tasks(id), buf[:runtime.Stack(buf, true)])
	}
	m.view(func(tx *state.Tx) {
		c := tx.Change(id)
		status = c.Status()
		if err := c.Err(); err != nil {
			msg = err.Error()
		}
	})
	return status, msg
}

func (m *machine) view(f func(tx *state.Tx)) {
	m.t.Helper()
	if err := m.o.State().View(func(tx *state.Tx) error { f(tx); return nil }); err != nil {
		m.t.Fatal(err)
	}
}

// tasks renders a change's tasks with their logs.
func (m *machine) tasks(id string) string {
	var b strings.Builder
	m.view(func(tx *state.Tx) {
		for _, t := range tx.Change(id).Tasks() {
			fmt.Fprintf(&b, "%s %s %v\n", t.Status(), t.Kind(), t.LogLines())
		}
	})
	return b.String()
}

// begun takes a change that must have been made.
func (m *machine) begun(id string, err error) string {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%s%v", m.where, err)
	}
	return id
}

// done waits for a change that must succeed.
func (m *machine) done(id string, err error) string {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	if st, msg := m.wait(id); st != state.Done {
		m.t.Fatalf("change %s is %s: %s\n%s", id, st, msg, m.tasks(id))
	}
	return id
}

// failed waits for a change that must not succeed.
func (m *machine) failed(id string, err error) string {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	st, msg := m.wait(id)
	if st != state.Error {
		m.t.Fatalf("change %s is %s, want Error\n%s", id, st, m.tasks(id))
	}
	return msg
}

func (m *machine) remove() (string, error) {
	return m.o.Remove(m.t.Context(), []string{"demo"}, recipes.RemoveOptions{Purge: true})
}

func (m *machine) record() *snapstate.Record {
	m.t.Helper()
	var rec *snapstate.Record
	m.view(func(tx *state.Tx) {
		var missing *snapstate.NotInstalledError
		var err error
		if rec, err = snapstate.Get(tx, "demo"); err != nil && !errors.As(err, &missing) {
			m.t.Fatal(err)
		}
	})
	return rec
}

func (m *machine) status(unit string) systemd.UnitStatus {
	m.t.Helper()
	sts, err := m.sd.Status(m.t.Context(), unit)
	if err != nil {
		m.t.Fatal(err)
	}
	return sts[0]
}

func (m *machine) pid(unit string) int { m.t.Helper(); return m.status(unit).MainPID }
