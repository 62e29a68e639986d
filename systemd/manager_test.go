// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"endured/systemd"
	"endured/systemd/systemdtest"
)

const sleeper = "[Service]\nType=exec\nExecStart=/bin/sleep infinity\n"

// fixture is a fake with unit files.
func fixture(t *testing.T, h systemdtest.Hooks, units map[string]string) (*systemdtest.Fake, *systemd.Manager, context.Context) {
	t.Helper()
	root := t.TempDir()
	for name, text := range units {
		path := filepath.Join(root, "etc/systemd/system", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := systemdtest.New(root, h)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return f, f.Manager(t), ctx
}

// blocked makes starts wait for the returned function.
func blocked() (systemdtest.Hooks, func()) {
	gate := make(chan struct{})
	return systemdtest.Hooks{Start: func(string) error { <-gate; return nil }}, sync.OnceFunc(func() { close(gate) })
}

func TestJobEndsWhileDisconnected(t *testing.T) {
	t.Parallel()
	h, release := blocked()
	dials := make(chan struct{}, 100)
	f, _, ctx := fixture(t, h, map[string]string{"a.service": sleeper, "b.service": sleeper})
	hold := make(chan struct{})
	m, err := systemd.Dial(ctx, systemd.Options{DialFunc: func(ctx context.Context) (net.Conn, error) {
		dials <- struct{}{}
		if len(dials) > 1 {
			select {
			case <-hold:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return f.Dial(ctx)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	done, err := m.Start(ctx, "a.service", "replace")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := m.Start(ctx, "b.service", "replace")
	if err != nil {
		t.Fatal(err)
	}
	f.DropConnections()
	// Both jobs end with nobody connected: one is done, the other replaced.
	other := f.Manager(t)
	if j, err := other.Stop(ctx, "b.service", "replace"); err != nil {
		t.Fatal(err)
	} else if r, err := j.Wait(ctx); r != systemd.ResultDone {
		t.Fatal(r, err)
	}
	release()
	if st, err := other.Settle(ctx, "a.service", false); err != nil || st.ActiveState != "active" {
		t.Fatalf("%+v, %v", st, err)
	}
	close(hold)
	if r, err := done.Wait(ctx); r != systemd.ResultDone || err != nil {
		t.Errorf("started: %q, %v", r, err)
	}
	if r, err := gone.Wait(ctx); r != systemd.ResultCanceled || err != nil {
		t.Errorf("replaced: %q, %v", r, err)
	}
	if st, err := m.Status(ctx, "a.service"); err != nil || st[0].ActiveState != "active" {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestJobOutlivesConnections(t *testing.T) {
	t.Parallel()
	h, release := blocked()
	f, m, ctx := fixture(t, h, map[string]string{"a.service": sleeper})
	j, err := m.Start(ctx, "a.service", "replace")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		f.DropConnections()
		if _, err := m.ListUnits(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if r := j.Result(); r != "" {
		t.Fatalf("ended: %q", r)
	}
	release()
	if r, err := j.Wait(ctx); r != systemd.ResultDone || err != nil {
		t.Fatalf("%q, %v", r, err)
	}
	if n := strings.Count(strings.Join(f.Calls(), "\n"), "StartUnit"); n != 1 {
		t.Errorf("%d start calls", n)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	h, release := blocked()
	defer release()
	_, m, ctx := fixture(t, h, map[string]string{"a.service": sleeper})
	j, err := m.Start(ctx, "a.service", "replace")
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if r, err := j.Wait(ctx); r != "" || !errors.Is(err, systemd.ErrClosed) {
		t.Errorf("%q, %v", r, err)
	}
	if _, err := m.Status(ctx, "a.service"); !errors.Is(err, systemd.ErrClosed) {
		t.Errorf("status: %v", err)
	}
	if _, err := m.Settle(ctx, "a.service", false); !errors.Is(err, systemd.ErrClosed) {
		t.Errorf("settle: %v", err)
	}
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := systemd.Dial(t.Context(), systemd.Options{SystemBus: dir + "/no-bus", Private: dir + "/no-private"})
	if err == nil || !strings.HasPrefix(err.Error(), "cannot connect to systemd: ") ||
		!strings.Contains(err.Error(), "no-bus") || !strings.Contains(err.Error(), "no-private") {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := systemdtest.New(dir, systemdtest.Hooks{})
	defer f.Close()
	if _, err := systemd.Dial(ctx, systemd.Options{DialFunc: f.Dial}); err == nil {
		t.Fatal("connected without time")
	}
}

// TestNoJobIsLost starts and stops from many goroutines: replies and
// JobRemoved race in every order.
func TestNoJobIsLost(t *testing.T) {
	t.Parallel()
	units := map[string]string{}
	names := []string{"a.service", "b.service", "c.service", "d.service"}
	for _, n := range names {
		units[n] = sleeper
	}
	_, m, ctx := fixture(t, systemdtest.Hooks{}, units)
	start := time.Now()
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Go(func() {
			for range 15 {
				for _, verb := range []string{"start", "restart", "stop"} {
					if err := m.Run(ctx, verb, n, "replace"); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("180 jobs took %v: events were missed", d)
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	note := func(s ...string) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, strings.Join(s, " "))
		return nil
	}
	fail := errors.New("no")
	f, m, ctx := fixture(t, systemdtest.Hooks{
		Mount:   func(what, where string) error { return note("mount", what, where) },
		Unmount: func(string, string) error { return fail },
		Start: func(u string) error {
			if u == "bad.service" {
				return fail
			}
			return note("start", u)
		},
		Stop: func(u string) error { note("stop", u); return fail },
		Spawn: func(u string, argv []string) (int, error) {
			note(append([]string{"spawn", u}, argv...)...)
			return 77, nil
		},
		Signal: func(u string, pid int, sig syscall.Signal) bool {
			note("signal", u, sig.String())
			return sig == syscall.SIGKILL
		},
	}, map[string]string{"a.service": sleeper, "bad.service": sleeper, "snap-foo.mount": "[Mount]\nWhat=/x.snap\nWhere=/snap/foo\n"})
	var je *systemd.JobError
	if err := m.Run(ctx, "start", "bad.service", "replace"); !errors.As(err, &je) || je.Error() != "cannot start bad.service: unit failed" {
		t.Error(err)
	}
	for _, u := range []string{"snap-foo.mount", "a.service"} {
		if err := m.Run(ctx, "start", u, "replace"); err != nil {
			t.Error(err)
		}
	}
	if err := m.Run(ctx, "stop", "snap-foo.mount", "replace"); !errors.As(err, &je) || je.Result != "failed" {
		t.Error(err)
	}
	if st, _ := m.Status(ctx, "a.service", "snap-foo.mount"); st[0].MainPID != 77 || st[1].ActiveState != "active" {
		t.Errorf("%+v", st)
	}
	if err := m.Run(ctx, "stop", "a.service", "replace"); err != nil {
		t.Error(err)
	}
	if st, _ := m.Status(ctx, "a.service"); st[0].ActiveState != "failed" || st[0].Result != "timeout" {
		t.Errorf("%+v", st)
	}
	f.FailNext("Reload", fail)
	if err := m.Reload(ctx); err == nil || m.Reload(ctx) != nil {
		t.Errorf("reload: %v", err)
	}
	want := "mount /x.snap /snap/foo, start a.service, spawn a.service /bin/sleep infinity, stop a.service, signal a.service terminated, signal a.service killed"
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestReboot(t *testing.T) {
	t.Parallel()
	f, m, ctx := fixture(t, systemdtest.Hooks{}, map[string]string{
		"a.service": sleeper + "[Install]\nWantedBy=multi-user.target\n", "b.service": sleeper,
		"gate@.service":      "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\nSuccessExitStatus=SIGTERM\n[Install]\nWantedBy=multi-user.target\n",
		"a.service.d/g.conf": "[Unit]\nAfter=gate@x.service\n"})
	if _, err := m.Enable(ctx, "a.service", "gate@x.service"); err != nil {
		t.Fatal(err)
	}
	if err := m.Run(ctx, "start", "b.service", "replace"); err != nil {
		t.Fatal(err)
	}
	if err := f.Reboot(); err != nil {
		t.Fatal(err)
	}
	st, err := m.Status(ctx, "a.service", "b.service")
	if err != nil || st[0].JobState != "waiting" || st[1].ActiveState != "inactive" {
		t.Fatalf("after the boot: %+v, %v", st, err)
	}
	if err := m.Run(ctx, "stop", "gate@x.service", "replace"); err != nil {
		t.Fatal(err)
	}
	if st, err := m.Settle(ctx, "a.service", false); err != nil || st.ActiveState != "active" {
		t.Fatalf("%+v, %v", st, err)
	}
}
