// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"endured/client"
	"endured/daemon"
	"endured/overlord/hookstate"
)

func (f *fake) Identify(pid int) (*hookstate.Caller, error) {
	if err := f.note("identify %d", pid); err != nil {
		return nil, err
	}
	return &hookstate.Caller{Snap: "probe", App: "svc"}, nil
}

func (f *fake) Confined(pid int) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.confined, nil
}

func (f *fake) Snapctl(_ context.Context, who *hookstate.Caller, args []string) (*hookstate.Answer, error) {
	if err := f.note("snapctl %s.%s as %d: %s", who.Snap, who.App, who.UID, strings.Join(args, " ")); err != nil {
		return nil, err
	}
	if len(args) > 0 && args[0] == "is-connected" {
		return &hookstate.Answer{ExitCode: 1, Stdout: "no\n"}, nil
	}
	return &hookstate.Answer{Stdout: "out\n"}, nil
}

// TestSnapSocket has a daemon on both sockets, which asks the kernel who calls.
func TestSnapSocket(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), t.Context()
	dir := t.TempDir()
	main, snaps := filepath.Join(dir, "snapd.socket"), filepath.Join(dir, "snapd-snap.socket")
	var listeners []net.Listener
	for _, path := range []string{main, snaps} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	d := daemon.New(f.fake, daemon.Options{Dirs: f.dirs})
	served := make(chan error, 1)
	go func() { served <- d.Serve(listeners...) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := d.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-served
	}()
	on := func(path string) *client.Client { return client.New(client.Config{Socket: path}) }

	if r, err := on(snaps).Snapctl(ctx, []string{"get", "a"}); err != nil || r.Stdout != "out\n" || r.ExitCode != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := on(snaps).Snapctl(ctx, []string{"is-connected", "home"}); err != nil || r.Stdout != "no\n" || r.ExitCode != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if calls := strings.Join(f.called(), "\n"); !strings.Contains(calls, "identify ") || !strings.Contains(calls, "snapctl probe.svc as ") {
		t.Error(calls)
	}
	if _, err := on(main).Snapctl(ctx, []string{"get", "a"}); refusal(t, err).StatusCode != 403 {
		t.Errorf("snapctl on the main socket: %v", err)
	}
	if _, err := on(snaps).Snaps(ctx, nil, false); refusal(t, err).StatusCode != 403 {
		t.Errorf("the API on the snaps' socket: %v", err)
	}
}

// TestSnapctlOnlyTheCaller refuses where it is not certain who calls.
func TestSnapctlOnlyTheCaller(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), t.Context()
	for _, p := range []daemon.Peer{
		{PID: os.Getpid(), UID: uint32(os.Geteuid()), Accepted: time.Millisecond, FromSnaps: true},
		{PID: 0, Accepted: now(), FromSnaps: true},
	} {
		f.as(p)
		if _, err := f.newClient().Snapctl(ctx, []string{"get", "a"}); refusal(t, err).StatusCode != 403 {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if calls := f.called(); len(calls) > 0 {
		t.Error(calls)
	}
	f.err = &hookstate.StrangerError{PID: 7}
	f.as(daemon.Peer{PID: os.Getpid(), UID: uint32(os.Geteuid()), Accepted: now(), FromSnaps: true})
	_, err := f.newClient().Snapctl(ctx, []string{"get", "a"})
	if e := refusal(t, err); e.StatusCode != 403 || !strings.Contains(e.Message, "runs in no service, app or hook of a snap") {
		t.Errorf("%+v", e)
	}
}

// TestConfinedPeers has no program of a confined snap use the main socket, not
// even to look.
func TestConfinedPeers(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), t.Context()
	f.mu.Lock()
	f.confined = "probe"
	f.mu.Unlock()
	c := f.newClient()
	_, err := c.Remove(ctx, []string{"probe"}, client.RemoveOptions{})
	_, err2 := c.Track(ctx, "probe", "cli")
	_, err3 := c.Snaps(ctx, nil, false)
	for _, err := range []error{err, err2, err3} {
		if err == nil || !strings.Contains(err.Error(), `programs of snap "probe" are confined`) {
			t.Errorf("got %v", err)
		}
	}
	if calls := f.called(); len(calls) > 0 {
		t.Errorf("called %v", calls)
	}
}
