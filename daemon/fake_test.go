// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"endured/client"
	"endured/daemon"
	"endured/dirs"
	"endured/interfaces"
	"endured/interfaces/builtin"
	"endured/interfaces/mount"
	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/servicestate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/store"
	"endured/wrappers"
)

// fake is a Backend that notes what it is asked for.
type fake struct {
	state *state.State

	mu       sync.Mutex
	calls    []string
	err      error // what every method fails with
	confined string
	uploads  []uploaded
	plan     *lifecycle.Plan
	snaps    []recipes.SnapView
	services []servicestate.View
	conf     map[string]any
	conns    map[string]interfaces.ConnState
	updates  []recipes.Update
	fixed    string // the id of every change, if set: none is made
	details  *store.Details
}

type uploaded struct {
	path    string
	mode    os.FileMode
	content string
	options recipes.InstallOptions
}

func (f *fake) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fixed == "" {
		f.calls = append(f.calls, fmt.Sprintf(format, args...))
	}
	return f.err
}

func (f *fake) begin(kind, format string, args ...any) (string, error) {
	if err := f.note(format, args...); err != nil {
		return "", err
	}
	if f.fixed != "" {
		return f.fixed, nil
	}
	return f.newChange(kind, "probe"), nil
}

// newChange makes a change with one task that nobody runs.
func (f *fake) newChange(kind, name string) string {
	var id string
	err := f.state.Update(func(tx *state.Tx) error {
		c := tx.NewChange(kind, "Do "+kind)
		c.Set("snap-names", []string{name})
		c.Set("setup/"+name, "private")
		t := tx.NewTask("some-task", "Do something")
		t.Log("pid 4242 was there")
		c.AddTask(t)
		id = c.ID()
		return nil
	})
	if err != nil {
		panic(err)
	}
	return id
}

func (f *fake) InstallFile(_ context.Context, path string, o recipes.InstallOptions) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	if f.fixed == "" {
		f.uploads = append(f.uploads, uploaded{path, fi.Mode(), string(raw), o})
	}
	f.mu.Unlock()
	return f.begin("install-snap", "install %s", o.Name)
}

func (f *fake) InstallFiles(_ context.Context, files []recipes.LocalFile, o recipes.InstallOptions) (string, error) {
	var names []string
	for _, file := range files {
		names = append(names, file.Name)
	}
	return f.begin("install-snap", "install %v %+v", names, o)
}

func (f *fake) PlanInstallFile(_ context.Context, path string, _ recipes.InstallOptions) (*lifecycle.Plan, error) {
	return f.plan, f.note("plan install %s", path)
}

func (f *fake) InstallNames(_ context.Context, names []string, o recipes.StoreOptions) (string, error) {
	return f.begin("install-snap", "install %v %+v", names, o)
}

func (f *fake) PlanInstallNames(_ context.Context, names []string, _ recipes.StoreOptions) ([]*lifecycle.Plan, error) {
	return []*lifecycle.Plan{f.plan}, f.note("plan install %v", names)
}

func (f *fake) Refresh(_ context.Context, names []string, o recipes.StoreOptions) (string, error) {
	return f.begin("refresh-snap", "refresh %v %+v", names, o)
}

func (f *fake) PlanRefresh(_ context.Context, names []string, _ recipes.StoreOptions) ([]*lifecycle.Plan, error) {
	return []*lifecycle.Plan{f.plan}, f.note("plan refresh %v", names)
}

func (f *fake) Updates(context.Context) ([]recipes.Update, error) {
	return f.updates, f.note("updates")
}

func (f *fake) SwitchChannel(_ context.Context, name, channel string) (string, error) {
	return f.begin("switch-snap", "switch %s %s", name, channel)
}

func (f *fake) Download(_ context.Context, name, channel string, rev snap.Revision) (*store.Snap, io.ReadCloser, error) {
	if err := f.note("download %s %s %s", name, channel, rev); err != nil {
		return nil, nil, err
	}
	return &store.Snap{Name: name, Revision: 7, Size: 5, SHA3: "abc"}, io.NopCloser(strings.NewReader("hsqs!")), nil
}

func (f *fake) Hold(_ context.Context, names []string, h snapstate.Hold) (string, error) {
	return f.begin("hold-snap", "hold %v %+v", names, h)
}

func (f *fake) Unhold(_ context.Context, names []string) (string, error) {
	return f.begin("unhold-snap", "unhold %v", names)
}

func (f *fake) RefreshTimes() (timer, hold string) { return "00:00~24:00/4", "" }

func (f *fake) Details(_ context.Context, name string) (*store.Details, error) {
	if err := f.note("details %s", name); err != nil {
		return nil, err
	}
	if f.details == nil {
		return nil, &store.NotFoundError{Name: name}
	}
	return f.details, nil
}

func (f *fake) Search(_ context.Context, words string) ([]*store.Details, error) {
	var out []*store.Details
	if f.details != nil {
		out = append(out, f.details)
	}
	return out, f.note("search %s", words)
}

func (f *fake) Revert(_ context.Context, name string, rev snap.Revision) (string, error) {
	return f.begin("revert-snap", "revert %s %s", name, rev)
}

func (f *fake) PlanRevert(_ context.Context, name string, rev snap.Revision) (*lifecycle.Plan, error) {
	return f.plan, f.note("plan revert %s %s", name, rev)
}

func (f *fake) Remove(_ context.Context, names []string, o recipes.RemoveOptions) (string, error) {
	return f.begin("remove-snap", "remove %v %+v", names, o)
}

func (f *fake) PlanRemove(_ context.Context, names []string, o recipes.RemoveOptions) ([]*lifecycle.Plan, error) {
	return []*lifecycle.Plan{f.plan}, f.note("plan remove %v", names)
}

func (f *fake) Configuration(name string, keys []string) (map[string]any, error) {
	return f.conf, f.note("get %s %v", name, keys)
}

func (f *fake) Repository() (*interfaces.Repository, error) {
	var snaps []interfaces.Installed
	for _, v := range f.snaps {
		snaps = append(snaps, interfaces.Installed{Info: v.Info})
	}
	return interfaces.New(builtin.All(), snaps, f.conns)
}

func (f *fake) Connect(_ context.Context, plug, slot interfaces.End) (string, error) {
	return f.begin("connect-snap", "connect %s %s", plug, slot)
}

func (f *fake) Disconnect(_ context.Context, plug, slot interfaces.End, forget bool) (string, error) {
	return f.begin("disconnect-snap", "disconnect %s %s %t", plug, slot, forget)
}

func (f *fake) Configure(_ context.Context, name string, values map[string]any) (string, error) {
	return f.begin("configure-snap", "set %s %v", name, values)
}

func (f *fake) Enable(_ context.Context, name string) (string, error) {
	return f.begin("enable-snap", "enable %s", name)
}

func (f *fake) Disable(_ context.Context, name string) (string, error) {
	return f.begin("disable-snap", "disable %s", name)
}

func (f *fake) Services(_ context.Context, r recipes.ServicesRequest) (string, error) {
	return f.begin("service-control", "%s %v enable=%v disable=%v reload=%v", r.Event, r.Names, r.Enable, r.Disable, r.Reload)
}

func (f *fake) Snaps(_ context.Context, names []string, all bool) ([]recipes.SnapView, error) {
	if err := f.note("snaps %v all=%v", names, all); err != nil {
		return nil, err
	}
	var out []recipes.SnapView
	for _, v := range f.snaps {
		if len(names) == 0 || slices.Contains(names, v.Record.Name) {
			out = append(out, v)
		}
	}
	if len(names) > 0 && len(out) == 0 {
		return nil, &snapstate.NotInstalledError{Snap: names[0]}
	}
	return out, nil
}

func (f *fake) ServiceViews(_ context.Context, names []string) ([]servicestate.View, error) {
	return f.services, f.note("services %v", names)
}

func (f *fake) Track(_ context.Context, pid int, snapName, app string) (*servicestate.Tracked, error) {
	return &servicestate.Tracked{Revision: -7, Sandbox: wrappers.Sandbox{
		Strict: true, Capabilities: []string{"CAP_KILL"}, Mounts: []mount.Part{{Target: "/run"}, {Source: "/a", Target: "/b", ReadOnly: true}},
	}}, f.note("track %d %s %s", pid, snapName, app)
}

func (f *fake) Abort(id string) error {
	return errors.Join(f.note("abort %s", id), f.state.Update(func(tx *state.Tx) error {
		tx.Change(id).Abort()
		return nil
	}))
}

func (f *fake) State() *state.State { return f.state }

func (f *fake) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// fixture is a daemon on a socket in a temporary directory, over a fake.
type fixture struct {
	*fake
	t      testing.TB
	dirs   dirs.Dirs
	daemon *daemon.Daemon
	client *client.Client

	mu   sync.Mutex
	peer daemon.Peer
}

// as makes new connections come from a user.
func (f *fixture) as(p daemon.Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peer = p
}

func now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	root := t.TempDir()
	d := dirs.New(root)
	for _, dir := range []string{d.Blobs(), d.Run()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	st, err := state.Open(filepath.Join(root, "state.db"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{fake: &fake{state: st}, t: t, dirs: d, peer: daemon.Peer{UID: 0, PID: os.Getpid(), Accepted: now()}}
	l, err := net.Listen("unix", d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	f.daemon = daemon.New(f.fake, daemon.Options{Dirs: d, Version: "1.2.3", Journalctl: filepath.Join(root, "journalctl"), Peer: func(net.Conn) (daemon.Peer, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.peer, nil
	}})
	served := make(chan error, 1)
	go func() { served <- f.daemon.Serve(l) }()
	f.client = f.newClient()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.daemon.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// newClient is a client with connections of its own.
func (f *fixture) newClient() *client.Client {
	return client.New(client.Config{Socket: f.dirs.Socket(), Patience: time.Millisecond})
}

// raw makes a request on a connection of its own and returns the answer as it is.
func (f *fixture) raw(method, path, contentType string, body io.Reader) (status int, answer string) {
	f.t.Helper()
	h := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", f.dirs.Socket())
		}}}
	req, err := http.NewRequest(method, "http://localhost"+path, body)
	if err != nil {
		f.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := h.Do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
		f.t.Errorf("%s %s: Content-Type %q", method, path, ct)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func (f *fixture) spooled() []string {
	f.t.Helper()
	entries, err := os.ReadDir(f.dirs.Blobs())
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// refusal returns the daemon's error, failing the test if there is none.
func refusal(t *testing.T, err error) *client.Error {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want a refusal of the daemon", err)
	}
	return e
}

func probeView(rev snap.Revision, current bool) recipes.SnapView {
	info := &snap.Info{Name: "probe", Version: "1.0", Type: "app", Confinement: "strict", Revision: rev, Apps: map[string]*snap.App{}}
	info.Apps["svc"] = &snap.App{Snap: info, Name: "svc", Daemon: "simple"}
	info.Apps["cli"] = &snap.App{Snap: info, Name: "cli"}
	r := snapstate.Revision{Revision: rev, Size: 4096, Installed: time.Unix(1700000000, 0).UTC()}
	return recipes.SnapView{Record: snapstate.Record{Name: "probe", Current: rev, Active: current}, Rev: r, Info: info, Current: current}
}
