// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"endured/overlord/hookstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/wrappers"
)

// hooked adds a version of the sample snap with hooks.
func (l *library) hooked(t *testing.T, version string, hooks ...string) {
	t.Helper()
	tree := filepath.Join(l.dir, version)
	write(t, tree, "meta/snap.yaml", fmt.Sprintf(yamlHead, version)+yamlKeeper, 0o644)
	write(t, tree, "bin/run", "#!/bin/sh\nexec sleep 1000\n", 0o755)
	for _, h := range hooks {
		write(t, tree, "meta/hooks/"+h, "#!/bin/sh\n", 0o755)
	}
	if _, err := snap.Pack(t.Context(), tree, l.dir, snap.PackOptions{Filename: version + ".snap", Compression: "gzip"}); err != nil {
		t.Fatal(err)
	}
	sum, _, err := snap.HashFile(t.Context(), l.file(version))
	if err != nil {
		t.Fatal(err)
	}
	l.trees[sum] = tree
}

// starts notes which programs are started, in order, and lets act take part.
type starts struct {
	mu   sync.Mutex
	list []string
	act  func(hook, task, rev string) error
}

func (s *starts) started(unit, rev string) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(unit, "snap.demo."), ".service")
	_, hook, task, ok := wrappers.ParseHookUnitName(unit)
	if ok {
		name = hook
	}
	s.mu.Lock()
	s.list = append(s.list, name+" "+rev)
	act := s.act
	s.mu.Unlock()
	if ok && act != nil {
		return act(hook, task, rev)
	}
	return nil
}

// take returns what was started since the last call.
func (s *starts) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := strings.Join(s.list, ", ")
	s.list = nil
	return out
}

func (s *starts) when(act func(hook, task, rev string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.act = act
}

func newHooked(t *testing.T) (*machine, *starts) {
	t.Helper()
	lib := newLibrary(t)
	lib.hooked(t, "h1", "install", "default-configure", "configure", "pre-refresh", "remove", "check-health")
	lib.hooked(t, "h2", "post-refresh", "configure", "pre-refresh")
	m, s := newMachine(t, lib), &starts{}
	m.hook(s.started, nil, nil)
	return m, s
}

func (m *machine) snapctl(who *hookstate.Caller, args ...string) (string, error) {
	a, err := m.o.Snapctl(m.t.Context(), who, args)
	if err != nil {
		return "", err
	}
	return a.Stdout, nil
}

func TestHooksInOrder(t *testing.T) {
	t.Parallel()
	m, s := newHooked(t)
	timeout := ""
	s.when(func(hook, task, _ string) error {
		if hook == "install" { // nobody waits for what is new: it has all the time of a hook
			text, err := os.ReadFile(filepath.Join(m.dirs.RunUnits(), wrappers.HookUnitName("demo", hook, task)))
			timeout = string(text)
			return err
		}
		return nil
	})
	m.done(m.install("h1"))
	if !strings.Contains(timeout, "TimeoutStartSec=600s\n") {
		t.Errorf("the install hook: %s", timeout)
	}
	if got := s.take(); !strings.HasPrefix(got, "install x1, default-configure x1, ") || !strings.HasSuffix(got, ", configure x1, check-health x1") ||
		!strings.Contains(got, "svc x1") {
		t.Errorf("installing starts %s", got)
	}
	if h := m.record().Health; h == nil || h.Status != "unknown" || h.Code != "snapd-hook-no-health-set" {
		t.Errorf("health %+v", h)
	}
	keep := m.pid(keeper)
	m.done(m.install("h2"))
	if got := s.take(); got != "pre-refresh x1, post-refresh x2, svc x2, configure x2" {
		t.Errorf("refreshing starts %s", got)
	}
	m.done(m.o.Revert(t.Context(), "demo", 0))
	if got := s.take(); got != "svc x1, configure x1, check-health x1" {
		t.Errorf("reverting starts %s", got)
	}
	if m.pid(keeper) != keep {
		t.Error("the enduring service was disturbed")
	}
	m.done(m.remove())
	if got := s.take(); got != "remove x1" {
		t.Errorf("removing starts %s", got)
	}
}

// TestHookFails has each hook fail: the change is taken back, with what the
// hook had asked for.
func TestHookFails(t *testing.T) {
	t.Parallel()
	m, s := newHooked(t)
	bad := func(which string) func(hook, task, rev string) error {
		return func(hook, task, rev string) error {
			if hook != which {
				return nil
			}
			who := &hookstate.Caller{Snap: "demo", Hook: hook, Task: task}
			_, err := m.snapctl(who, "set", "left=1")
			_, err2 := m.snapctl(who, "restart", "demo.svc")
			if err := errors.Join(err, err2); err != nil {
				t.Error(err)
			}
			return errors.New("bad")
		}
	}
	s.when(bad("install"))
	if msg := m.failed(m.install("h1")); !strings.Contains(msg, `cannot run hook "install" of snap "demo"`) || m.record() != nil {
		t.Error(msg)
	}
	s.when(nil)
	m.done(m.install("h1"))
	pids := []int{m.pid(svc), m.pid(keeper)}
	for _, which := range []string{"pre-refresh", "post-refresh", "configure"} {
		s.when(bad(which))
		if msg := m.failed(m.install("h2")); !strings.Contains(msg, `cannot run hook "`+which+`" of snap "demo"`) {
			t.Error(msg)
		}
		rec := m.record()
		if rec.Current != -1 || len(rec.Sequence) != 1 || len(rec.Config) > 2 || m.pid(svc) == 0 || m.pid(keeper) != pids[1] {
			t.Errorf("%s: %+v, svc %d, keeper %d", which, rec, m.pid(svc), m.pid(keeper))
		}
		if which == "pre-refresh" && m.pid(svc) != pids[0] {
			t.Error("a pre-refresh hook that failed had svc restarted")
		}
	}
	m.view(func(tx *state.Tx) {
		if keys, _ := tx.Keys("hook-wishes/"); len(keys) > 1 { // the last may be about to be swept
			t.Error(keys)
		}
	})
}

// TestOptions sets options through the configure hook, and finds them again.
func TestOptions(t *testing.T) {
	t.Parallel()
	m, s := newHooked(t)
	m.done(m.install("h1"))
	s.when(func(hook, task, _ string) error {
		who := &hookstate.Caller{Snap: "demo", Hook: hook, Task: task}
		if port, err := m.snapctl(who, "get", "port"); err != nil || strings.TrimSpace(port) == "1" {
			return errors.Join(err, errors.New("a bad port"))
		}
		_, err := m.snapctl(who, "set", "seen=true")
		return err
	})
	options := func() string {
		o, err := m.o.Configuration("demo", nil)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(o)
	}
	m.done(m.o.Configure(t.Context(), "demo", map[string]any{"port": 8080, "a.b": "c"}))
	before := options()
	if before != "map[a:map[b:c] port:8080 seen:true]" {
		t.Error(before)
	}
	m.failed(m.o.Configure(t.Context(), "demo", map[string]any{"port": 1}))
	if got := options(); got != before {
		t.Error(got)
	}
	m.done(m.install("h2"))
	m.done(m.o.Configure(t.Context(), "demo", map[string]any{"port": 9090}))
	m.done(m.o.Revert(t.Context(), "demo", 0))
	if got := options(); got != before {
		t.Errorf("after the revert %s", got)
	}
	service := &hookstate.Caller{Snap: "demo", App: "svc"}
	if _, err := m.snapctl(service, "set", "now=1"); err != nil || !strings.Contains(options(), "now:1") {
		t.Errorf("from a service: %s, %v", options(), err)
	}
	service.UID = 1000
	if _, err := m.snapctl(service, "set", "now=2"); err == nil {
		t.Error("somebody has set an option")
	}
	if out, err := m.snapctl(service, "get", "-t", "now"); err != nil || out != "1\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestQueuedInSwitch asks for starts from inside a switch: they happen when it
// is over, as part of the change.
func TestQueuedInSwitch(t *testing.T) {
	t.Parallel()
	m, s := newHooked(t)
	m.done(m.install("h1"))
	s.when(func(hook, task, _ string) error {
		if hook != "post-refresh" {
			return nil
		}
		who := &hookstate.Caller{Snap: "demo", Hook: hook, Task: task}
		_, err := m.snapctl(who, "restart", "demo.keeper")
		out, err2 := m.snapctl(who, "lifecycle")
		if !strings.Contains(out, "event: refresh\nhook: post-refresh\nfrom: x1\nto: x2\nold: keeper ") {
			err2 = errors.Join(err2, fmt.Errorf("lifecycle says %q", out))
		}
		return errors.Join(err, err2)
	})
	keep := m.pid(keeper)
	s.take()
	id := m.done(m.install("h2"))
	if got := s.take(); got != "pre-refresh x1, post-refresh x2, svc x2, configure x2, keeper x2" {
		t.Errorf("started %s\n%s", got, m.tasks(id))
	}
	if m.pid(keeper) == keep {
		t.Error("the service was not restarted")
	}
}

// TestEndsAfterHook: an enduring main that a post-refresh hook may have asked to
// end, and that ends when the refresh is over, is started from the new
// revision, once; one that an operator stops is not.
func TestEndsAfterHook(t *testing.T) {
	t.Parallel()
	lib := newLibrary(t)
	lib.hooked(t, "h1")
	lib.hooked(t, "h2", "post-refresh")
	lib.hooked(t, "h3", "post-refresh", "remove")
	m := newMachine(t, lib)
	watched := func() (is bool) {
		m.view(func(tx *state.Tx) {
			keys, err := tx.Keys("abandoned/")
			is = err != nil || len(keys) > 0
		})
		return is
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		for n := 0; !ok(); n++ {
			if n == 6000 {
				t.Fatalf("%s: not within a minute", what)
			}
			time.Sleep(10 * time.Millisecond) // nothing tells
		}
	}
	end := func() {
		t.Helper()
		if err := m.sd.Kill(t.Context(), keeper, "main", syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	m.done(m.install("h1"))
	old := m.pid(keeper)
	m.done(m.install("h2"))
	if m.pid(keeper) != old || !watched() {
		t.Fatalf("the enduring service was disturbed, or is not watched: %v", watched())
	}
	m.stop() // the next daemon watches it
	m.start()
	end()
	await("a start", func() bool { pid := m.pid(keeper); return pid != 0 && pid != old })
	if rev := m.runs(m.pid(keeper)); rev != "x2" || watched() {
		t.Errorf("it runs from %s; watched: %v", rev, watched())
	}
	said := func() (list []string) {
		m.view(func(tx *state.Tx) {
			for _, w := range tx.Warnings() {
				if strings.Contains(w.Message, "has ended") {
					list = append(list, w.Message)
				}
			}
		})
		return list
	}
	want := fmt.Sprintf("demo.keeper, which went on after a hook that may have asked it to end, has ended (pid %d); revision x2 is started", old)
	if list := said(); len(list) != 1 || list[0] != want {
		t.Errorf("warnings %q", list)
	}
	m.done(m.install("h3"))
	if err := m.sd.Run(t.Context(), "stop", keeper, "replace"); err != nil {
		t.Fatal(err)
	}
	await("an end of the watch", func() bool { return !watched() })
	if pid := m.pid(keeper); pid != 0 || len(said()) != 1 {
		t.Errorf("it was stopped by hand, and runs as %d; %q", pid, said())
	}
}

// TestHookAfterPowerLoss cuts the power as a hook is started: it is run again,
// and told so.
func TestHookAfterPowerLoss(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"pre-refresh", "post-refresh", "configure"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			m, s := newHooked(t)
			told := make(chan bool, 10)
			s.when(func(hook, task, _ string) error {
				if hook != which {
					return nil
				}
				text, err := os.ReadFile(filepath.Join(m.dirs.RunUnits(), wrappers.HookUnitName("demo", hook, task)))
				told <- strings.Contains(string(text), "\nEnvironment=SNAP_HOOK_AGAIN=1\n")
				return err
			})
			m.done(m.install("h1"))
			for len(told) > 0 {
				<-told
			}
			reached, cut := make(chan struct{}), make(chan error)
			m.hook(s.started, func(call string) error {
				if strings.HasPrefix(call, "StartUnit snap.demo.hook."+which+"-") {
					close(reached)
					return <-cut
				}
				return nil
			}, nil)
			id := m.begun(m.install("h2"))
			<-reached
			m.hook(s.started, nil, nil)
			m.stop()
			cut <- errors.New("the caller is gone")
			m.reboot()
			m.start()
			if status, msg := m.wait(id); status != state.Done {
				t.Fatal(status, msg)
			}
			if len(told) != 1 || !<-told {
				t.Errorf("%s was run %d times, or was not told that it is run again", which, len(told))
			}
		})
	}
}
