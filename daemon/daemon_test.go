// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"endured/client"
	"endured/daemon"
	"endured/overlord/configstate"
	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/servicestate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

func TestEnvelope(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	status, body := f.raw("GET", "/v2/snaps", "", nil)
	if want := `{"type":"sync","status-code":200,"status":"OK","result":[]}` + "\n"; status != 200 || body != want {
		t.Errorf("empty list: %d %s\nwant %s", status, body, want)
	}
	// As the stock client sends it: no Content-Type.
	status, body = f.raw("POST", "/v2/apps", "", strings.NewReader(`{"action":"stop","names":["probe"]}`))
	if want := `{"type":"async","status-code":202,"status":"Accepted","result":null,"change":"1"}` + "\n"; status != 202 || body != want {
		t.Errorf("async: %d %s\nwant %s", status, body, want)
	}
	status, body = f.raw("GET", "/v2/snaps/nosuch", "", nil)
	if want := `{"type":"error","status-code":404,"status":"Not Found","result":{"kind":"snap-not-found","value":"nosuch","message":"snap not installed"}}` + "\n"; status != 404 || body != want {
		t.Errorf("error: %d %s\nwant %s", status, body, want)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	if err := f.state.Update(func(tx *state.Tx) error { tx.Warnf("data is not sealed"); return nil }); err != nil {
		t.Fatal(err)
	}
	list, err := f.client.Warnings(ctx, false)
	if err != nil || len(list) != 1 || list[0].Message != "data is not sealed" || list[0].RepeatAfter != "24h0m0s" {
		t.Fatalf("Warnings: %+v, %v", list, err)
	}
	if s := f.client.WarningsSummary(); s.Count != 1 || !s.Last.Equal(list[0].LastAdded) {
		t.Errorf("summary of every answer: %+v", s)
	}
	if err := f.client.Okay(ctx, list[0].LastAdded); err != nil {
		t.Fatal(err)
	}
	list, err = f.client.Warnings(ctx, false)
	if err != nil || len(list) != 0 {
		t.Errorf("after okay: %+v, %v", list, err)
	}
	if s := f.client.WarningsSummary(); s.Count != 0 {
		t.Errorf("summary after okay: %+v", s)
	}
	if list, _ := f.client.Warnings(ctx, true); len(list) != 1 || list[0].LastShown == nil {
		t.Errorf("all after okay: %+v", list)
	}
}

func TestRefusedRoutes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"GET", "/", "", 404, "not found"},
		{"GET", "/v2/find?select=new", "", 400, `cannot use select="new": want refresh, private or leave it out`},
		{"GET", "/v2/snaps/probe/nothing", "", 404, "not found"},
		{"POST", "/v2/snaps/system/conf", "", 405, `method "POST" not allowed`},
		{"PUT", "/v2/snaps/system/conf", "{}", 400, "cannot set options: none is named"},
		{"DELETE", "/v2/snaps", "", 405, `method "DELETE" not allowed`},
		{"PUT", "/v2/changes/1", "", 405, `method "PUT" not allowed`},
		{"POST", "/v2/snaps/probe", `{"action":"bogus"}`, 400, `cannot act on snaps with "bogus": want install, refresh, revert, remove, enable, disable, switch, hold or unhold`},
		{"POST", "/v2/snaps", `{"action":"bogus"}`, 400, `cannot act on snaps with "bogus": want install, refresh, revert, remove, enable, disable, switch, hold or unhold`},
		{"POST", "/v2/snaps/probe", `{"action":`, 400, "cannot read the request as JSON: unexpected end of JSON input"},
		{"POST", "/v2/snaps/probe", `{"action":"try"}`, 400, `cannot try snap "probe": this version cannot do that yet`},
		{"POST", "/v2/snaps", `{"action":"enable","snaps":["a"]}`, 400, `cannot enable several snaps in one request: install, refresh, remove, hold and unhold can be asked for so`},
		{"POST", "/v2/snaps", `{"action":"remove"}`, 400, "cannot remove: no snap named"},
		{"POST", "/v2/snaps", `{"action":"remove","snaps":["a","b"],"revision":"x1"}`, 400, "cannot remove a revision of several snaps"},
		{"POST", "/v2/snaps/probe", `{"action":"revert","revision":"7x"}`, 400, `cannot read revision "7x": want a number, or x and a number`},
		{"POST", "/v2/apps", `{"action":"start","names":[]}`, 400, "cannot control services: none is named; want names such as web, for all of a snap, or web.server"},
		{"POST", "/v2/apps", `{"action":"kill","names":["a"]}`, 400, `cannot control services with "kill": want start, stop or restart`},
		{"POST", "/v2/apps", `{"action":"start","names":["a"],"disable":true}`, 400, "cannot start: enable is for start, disable for stop and reload for restart"},
		{"GET", "/v2/changes/99", "", 404, `cannot find change with id "99"`},
		{"GET", "/v2/changes/99/wait", "", 404, `cannot find change with id "99"`},
		{"POST", "/v2/changes/99", `{"action":"abort"}`, 404, `cannot find change with id "99"`},
		{"GET", "/v2/changes?select=x", "", 400, `cannot use select="x": want all, in-progress, ready or leave it out`},
		{"GET", "/v2/debug?aspect=x", "", 400, `cannot tell "x" for debugging: want change-timings or state`},
		// A dry run that is not known must not become a real one.
		{"POST", "/v2/snaps/probe", `{"action":"disable","dry-run":true}`, 400, `cannot plan "disable": a dry run knows install, refresh, revert and remove`},
		{"POST", "/v2/snaps/probe", `{"action":"switch"}`, 400, `cannot switch "probe": no channel named`},
		{"POST", "/v2/snaps", `{"action":"install","dry-run":true,"dangerous":true,"path":"x.snap"}`, 400, `cannot plan install: want the absolute path of a file, got "x.snap"`},
	} {
		status, body := f.raw(c.method, c.path, "", strings.NewReader(c.body))
		var e struct{ Result client.Error }
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s %s: %v in %s", c.method, c.path, err, body)
			continue
		}
		if status != c.status || e.Result.Message != c.message {
			t.Errorf("%s %s %s: %d %q\nwant %d %q", c.method, c.path, c.body, status, e.Result.Message, c.status, c.message)
		}
	}
	if calls := f.called(); len(calls) > 0 {
		t.Errorf("the backend was called: %v", calls)
	}
	status, _ := f.raw("POST", "/v2/apps", "", strings.NewReader(`{"action":"`+strings.Repeat("x", 2<<20)+`"}`))
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("huge body: %d", status)
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.as(daemon.Peer{UID: 1000, PID: os.Getpid(), Accepted: now()})
	for _, path := range []string{"/v2/snaps", "/v2/snaps/probe", "/v2/apps", "/v2/changes/1", "/v2/warnings"} {
		status, body := f.raw("POST", path, "", strings.NewReader(`{}`))
		want := `{"type":"error","status-code":401,"status":"Unauthorized","result":{"kind":"login-required","message":"access denied"}}` + "\n"
		if status != 401 || body != want {
			t.Errorf("POST %s as a user: %d %s", path, status, body)
		}
	}
	if calls := f.called(); len(calls) > 0 {
		t.Errorf("the backend was called: %v", calls)
	}
	for _, path := range []string{"/v2/system-info", "/v2/snaps", "/v2/apps?select=service", "/v2/changes?select=all", "/v2/warnings"} {
		if status, body := f.raw("GET", path, "", nil); status != 200 {
			t.Errorf("GET %s as a user: %d %s", path, status, body)
		}
	}
}

func TestRootSeesMore(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.snaps = []recipes.SnapView{probeView(-2, true)}
	f.services = []servicestate.View{{Snap: "probe", App: "svc", Daemon: "simple", Mode: "endure", Revision: -1, Current: -2,
		MainPID: 77, Enabled: true, Active: true, Activators: []servicestate.Activator{{Name: "sock", Type: "socket", Active: true}}}}
	id := f.newChange("install-snap", "probe")
	const warning = "probe.svc (pid 64) still runs: /var/snap/probe/x1 is not sealed; pids 5, 6 hold it"
	if err := f.state.Update(func(tx *state.Tx) error { tx.Warnf(warning); return nil }); err != nil {
		t.Fatal(err)
	}
	warned := func() string {
		list, err := f.newClient().Warnings(ctx, false)
		if err != nil || len(list) != 1 {
			t.Fatalf("Warnings: %v, %v", list, err)
		}
		return list[0].Message
	}

	look := func() (client.Snap, client.AppInfo, *client.Change) {
		c := f.newClient()
		s, err := c.Snap(ctx, "probe")
		if err != nil {
			t.Fatal(err)
		}
		apps, err := c.Services(ctx, nil)
		if err != nil || len(apps) != 1 {
			t.Fatalf("Services: %v, %v", apps, err)
		}
		ch, err := c.Change(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return *s, apps[0], ch
	}
	s, app, ch := look()
	if s.MountedFrom != f.dirs.Blob("probe", snap.Revision(-2)) || app.MainPID != 77 || len(ch.Tasks[0].Log) != 1 {
		t.Errorf("root sees %q, pid %d, log %q", s.MountedFrom, app.MainPID, ch.Tasks[0].Log)
	}
	if s.Revision != "x2" || s.Status != "active" || !s.PartlyConfined || len(s.Apps) != 2 || s.Apps[1].MainPID != 77 {
		t.Errorf("snap: %+v", s)
	}
	if app.RunningRevision != "x1" || app.CurrentRevision != "x2" || app.RefreshMode != "endure" || app.Activators[0].Type != "socket" {
		t.Errorf("service: %+v", app)
	}
	if got := ch.SnapNames(); !reflect.DeepEqual(got, []string{"probe"}) || len(ch.Data) != 2 {
		t.Errorf("data of a change: %v, %s", got, ch.Data)
	}

	if got := warned(); got != warning {
		t.Errorf("root is warned %q", got)
	}

	f.as(daemon.Peer{UID: 1000, PID: 1, Accepted: now()})
	s, app, ch = look()
	if got := warned(); got != "probe.svc (pid …) still runs: … is not sealed; pids … hold it" {
		t.Errorf("a user is warned %q", got)
	}
	if s.MountedFrom != "" || app.MainPID != 0 || len(ch.Tasks[0].Log) != 0 || s.Apps[1].MainPID != 0 {
		t.Errorf("a user sees %q, pid %d, log %q", s.MountedFrom, app.MainPID, ch.Tasks[0].Log)
	}
}

func TestErrorKinds(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	for _, c := range []struct {
		err    error
		status int
		kind   string
		value  string // as JSON
	}{
		{&snapstate.NotInstalledError{Snap: "probe"}, 400, client.KindNotInstalled, `"probe"`},
		{fmt.Errorf("cannot: %w", &snapstate.ConflictError{Snap: "probe", ChangeKind: "refresh-snap", ChangeID: "7"}), 409, client.KindConflict,
			`{"change-id":"7","change-kind":"refresh-snap","snap-name":"probe"}`},
		{&snapstate.AppNotFoundError{Snap: "probe", App: "x"}, 404, client.KindAppNotFound, `null`},
		{&lifecycle.UnknownServiceError{Snap: "probe", App: "x"}, 404, client.KindAppNotFound, `null`},
		{&lifecycle.RunningAppsError{Event: lifecycle.Remove, Snap: "probe", Apps: []lifecycle.Process{{PID: 9, App: "cli"}}}, 400,
			client.KindAppsRunning, `{"pids":[9],"snap-name":"probe"}`},
		{&lifecycle.BusyRevisionError{Snap: "probe", Revision: -1, PIDs: []int{5}}, 400, client.KindRevisionBusy,
			`{"pids":[5],"revision":"x1","snap-name":"probe"}`},
		{&configstate.NoOptionError{Snap: "system", Key: "a.b"}, 400, client.KindNoOption, `{"Key":"a.b","SnapName":"system"}`},
		{&recipes.NeedsFlagError{Snap: "probe", Flag: "classic"}, 400, client.KindNeedsClassic, `"probe"`},
		{&recipes.NeedsFlagError{Snap: "probe", Flag: "devmode"}, 400, client.KindNeedsDevmode, `"probe"`},
		{fmt.Errorf("cannot copy: %w", syscall.ENOSPC), 507, client.KindInsufficientSpace, `null`},
		{&snap.FileError{Err: errors.New("it is cut off")}, 400, "", `null`},
		{errors.New(`cannot revert "probe": no revision to revert to`), 400, "", `null`},
	} {
		f.fake.mu.Lock()
		f.err = c.err
		f.fake.mu.Unlock()
		_, err := f.client.Revert(ctx, "probe", "")
		e := refusal(t, err)
		value, _ := json.Marshal(e.Value)
		if e.StatusCode != c.status || e.Kind != c.kind || string(value) != c.value || e.Message != c.err.Error() {
			t.Errorf("%T: %d %q %s %q\nwant %d %q %s %q", c.err, e.StatusCode, e.Kind, value, e.Message, c.status, c.kind, c.value, c.err)
		}
	}
	f.fake.mu.Lock()
	f.err = &snapstate.NotInstalledError{Snap: "probe"}
	f.fake.mu.Unlock()
	_, err := f.client.ControlServices(ctx, client.AppsRequest{Action: "stop", Names: []string{"probe"}})
	if e := refusal(t, err); e.StatusCode != 404 || e.Kind != client.KindNotFound || e.Message != `snap "probe" not found` {
		t.Errorf("stop of a missing snap: %+v", e)
	}
}

func TestVerbs(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.snaps = []recipes.SnapView{probeView(-1, true)}
	if _, err := f.client.Revert(ctx, "probe", "x1"); err != nil {
		t.Error(err)
	}
	if _, err := f.client.Remove(ctx, []string{"probe"}, client.RemoveOptions{Purge: true, Terminate: true}); err != nil {
		t.Error(err)
	}
	if _, err := f.client.Remove(ctx, []string{"a", "b"}, client.RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := f.client.Enable(ctx, "probe"); err != nil {
		t.Error(err)
	}
	if _, err := f.client.Disable(ctx, "probe"); err != nil {
		t.Error(err)
	}
	for _, r := range []client.AppsRequest{
		{Action: "start", Names: []string{"probe"}, Enable: true},
		{Action: "stop", Names: []string{"probe.svc"}, Disable: true},
		{Action: "restart", Names: []string{"probe"}, Reload: true},
	} {
		if _, err := f.client.ControlServices(ctx, r); err != nil {
			t.Error(err)
		}
	}
	want := []string{
		"revert probe x1", "remove [probe] {Purge:true Terminate:true Revision:unset}",
		"remove [a b] {Purge:false Terminate:false Revision:unset}", "enable probe", "disable probe",
		"start [probe] enable=true disable=false reload=false", "stop [probe.svc] enable=false disable=true reload=false",
		"restart [probe] enable=false disable=false reload=true",
	}
	if got := f.called(); !reflect.DeepEqual(got, want) {
		t.Errorf("called:\n%q\nwant\n%q", got, want)
	}

	info, err := f.client.SystemInfo(ctx)
	if err != nil || info.Version != "1.2.3" || info.Series != "16" || info.KernelVersion == "" {
		t.Errorf("system info: %+v, %v", info, err)
	}
	list, err := f.client.Snaps(ctx, []string{"nosuch", "probe"}, true)
	if err != nil || len(list) != 1 || list[0].Name != "probe" {
		t.Errorf("list with a missing name: %+v, %v", list, err)
	}
}

func TestPlanSurvivesTheWire(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.plan = &lifecycle.Plan{}
	fill(reflect.ValueOf(f.plan).Elem(), new(int))
	f.plan.To = 0 // unset is a value of its own
	want, err := json.Marshal(f.plan)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, plans []client.Plan, err error) {
		t.Helper()
		if err != nil || len(plans) != 1 {
			t.Fatalf("%s: %v, %v", what, plans, err)
		}
		got, err := json.Marshal(plans[0])
		if err != nil || !sameJSON(t, got, want) {
			t.Errorf("%s: the plan changed on its way (%v):\n%s\nwant\n%s", what, err, got, want)
		}
	}
	plans, err := f.client.PlanRevert(ctx, "probe", "")
	check("revert", plans, err)
	plans, err = f.client.PlanRemove(ctx, []string{"probe"}, client.RemoveOptions{})
	check("remove", plans, err)
	plans, err = f.client.PlanInstallFile(ctx, "/x/probe.snap", client.InstallOptions{Dangerous: true})
	check("install", plans, err)
	if got, want := f.called(), []string{"plan revert probe unset", "plan remove [probe]", "plan install /x/probe.snap"}; !reflect.DeepEqual(got, want) {
		t.Errorf("called %q, want %q", got, want)
	}
	if files := f.spooled(); len(files) > 0 {
		t.Errorf("a dry run left files: %v", files)
	}
}

// fill sets every field to something that is not its zero value.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.String:
		v.SetString(fmt.Sprint("s", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	default:
		panic(v.Type().String())
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

func TestKernelPeer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	d := daemon.New(f.fake, daemon.Options{Dirs: f.dirs})
	served := make(chan error, 1)
	go func() { served <- d.Serve(l) }()
	c := client.New(client.Config{Socket: path})
	tracked, err := c.Track(context.Background(), "probe", "cli")
	if want := fmt.Sprintf("track %d probe cli", os.Getpid()); err != nil || len(f.called()) != 1 || f.called()[0] != want {
		t.Errorf("Track: %v, called %v, want %s", err, f.called(), want)
	}
	if err == nil && tracked.Revision != "x7" {
		t.Errorf("Track said revision %q", tracked.Revision)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := d.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestTrackOnlyTheCaller(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	for _, c := range []struct {
		peer daemon.Peer
		want string
	}{
		{daemon.Peer{PID: os.Getpid(), UID: uint32(os.Geteuid()) + 1, Accepted: now()}, "has changed its user"},
		{daemon.Peer{PID: os.Getpid(), UID: uint32(os.Geteuid()), Accepted: time.Millisecond}, "is not it any longer"},
		{daemon.Peer{PID: 0, UID: 0, Accepted: now()}, "not visible"},
	} {
		f.as(c.peer)
		_, err := f.newClient().Track(ctx, "probe", "cli")
		e := refusal(t, err)
		if e.StatusCode != 403 || !strings.Contains(e.Message, c.want) {
			t.Errorf("peer %+v: %+v, want %q", c.peer, e, c.want)
		}
	}
	f.as(daemon.Peer{PID: os.Getpid(), UID: uint32(os.Geteuid()), Accepted: now()})
	_, err := f.newClient().Track(ctx, "../x", "cli")
	if e := refusal(t, err); e.StatusCode != 400 {
		t.Errorf("bad name: %+v", e)
	}
	if calls := f.called(); len(calls) > 0 {
		t.Errorf("the backend was called: %v", calls)
	}
}

func TestConnectionsPerUser(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.as(daemon.Peer{UID: 1000, PID: 1, Accepted: now()})
	var open []net.Conn
	refused := -1
	for i := range 300 {
		c, err := net.Dial("unix", f.dirs.Socket())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		if _, err := fmt.Fprintf(c, "GET /v2/system-info HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			refused = i
			break
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			refused = i
			break
		}
	}
	if refused != 256 {
		t.Errorf("connection %d of a user was refused, want 256", refused)
	}
	f.as(daemon.Peer{UID: 0, PID: 1, Accepted: now()})
	if status, _ := f.raw("GET", "/v2/system-info", "", nil); status != 200 {
		t.Errorf("root is refused: %d", status)
	}
	for _, c := range open {
		c.Close()
	}
}
