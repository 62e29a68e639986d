// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"endured/client"
	"endured/dirs"
)

// world is the command line over a daemon that gives canned answers.
type world struct {
	*app
	t        *testing.T
	out, err bytes.Buffer
	signals  chan os.Signal

	mu       sync.Mutex
	answers  map[string][]string // by "METHOD PATH?QUERY"; the last one is repeated
	requests []string            // "METHOD PATH?QUERY BODY"
	hook     func(request string)
}

func newWorld(t *testing.T, answers map[string]string) *world {
	t.Helper()
	root := t.TempDir()
	d := dirs.New(root)
	if err := os.MkdirAll(d.Run(), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, answers: map[string][]string{}, signals: make(chan os.Signal, 2)}
	for k, v := range answers {
		w.answers[k] = strings.Split(v, "\n---\n")
	}
	srv := &http.Server{Handler: w}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	env := map[string]string{"HOME": "/home/me", "PATH": "/bin"}
	w.app = &app{
		client: client.New(client.Config{Socket: d.Socket(), Patience: 1}),
		zone:   time.UTC, patience: time.Minute,
		dirs: d, out: &w.out, err: &w.err, uid: 1000,
		getenv:     func(k string) string { return env[k] },
		environ:    func() []string { return []string{"HOME=/home/me", "PATH=/bin", "LANG=C"} },
		width:      func() int { return 80 },
		interrupts: func() (<-chan os.Signal, func()) { return w.signals, func() {} },
	}
	return w
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key := r.Method + " " + r.URL.Path
	if q := r.URL.Query(); len(q) > 0 {
		q.Del("timeout")
		q.Del("seen")
		if enc := q.Encode(); enc != "" {
			key += "?" + enc
		}
	}
	w.mu.Lock()
	request := key
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		request += " FORM"
	} else if len(body) > 0 {
		request += " " + string(body)
	}
	w.requests = append(w.requests, request)
	list := w.answers[key]
	answer := ""
	if len(list) > 0 {
		answer = list[0]
		if len(list) > 1 {
			w.answers[key] = list[1:]
		}
	}
	hook := w.hook
	w.mu.Unlock()
	if hook != nil {
		hook(key)
	}
	rw.Header().Set("Content-Type", "application/json")
	switch {
	case answer == "":
		rw.WriteHeader(404)
		fmt.Fprintf(rw, `{"type":"error","result":{"message":"no answer to %s"}}`, key)
	case strings.HasPrefix(answer, "change "):
		rw.WriteHeader(202)
		fmt.Fprintf(rw, `{"type":"async","change":%q}`, strings.TrimPrefix(answer, "change "))
	case strings.HasPrefix(answer, "error "):
		f := strings.SplitN(answer, " ", 3)
		var status int
		fmt.Sscan(f[1], &status)
		rw.WriteHeader(status)
		fmt.Fprintf(rw, `{"type":"error","result":%s}`, f[2])
	default:
		fmt.Fprintf(rw, `{"type":"sync","result":%s}`, answer)
	}
}

// asked returns the requests so far, one a line.
func (w *world) asked() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.requests, "\n")
}

const (
	probeSnap = `{"name":"probe","version":"1.0","revision":"x1","status":"active","confinement":"strict","partly-confined":true}`
	doneOne   = `{"id":"1","status":"Done","ready":true,"data":{"snap-names":["probe"]},"tasks":[{"id":"1","status":"Done","summary":"Prepare"}]}`
)

func TestOutput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "probe_1.0_all.snap")
	if err := os.WriteFile(file, []byte("squash"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		args    string
		answers map[string]string
		status  int
		out     string
		err     string // "*" is anything
	}{{
		name: "list", args: "list",
		answers: map[string]string{"GET /v2/snaps": `[` + probeSnap + `,{"name":"web","version":"2.3.4","revision":"12","status":"active","tracking-channel":"latest/stable","publisher":{"username":"acme","validation":"verified"}}]`},
		out: "Name   Version  Rev  Tracking       Publisher  Notes\n" +
			"probe  1.0      x1   -              -          partly-confined\n" +
			"web    2.3.4    12   latest/stable  acme**     -\n",
	}, {
		name: "list --all", args: "list --all",
		answers: map[string]string{"GET /v2/snaps?select=all": `[{"name":"probe","version":"1.0\u001b[2J","revision":"x1","status":"installed","devmode":true},` + probeSnap + `]`},
		out: "Name   Version  Rev  Tracking  Publisher  Notes\n" +
			"probe  1.0?[2J  x1   -         -          devmode,disabled\n" +
			"probe  1.0      x1   -         -          partly-confined\n",
	}, {
		name: "empty list", args: "list", answers: map[string]string{"GET /v2/snaps": `[]`},
		err: "No snap is installed. 'snap find' shows what the store has, 'snap install' takes a name or a file.\n",
	}, {
		name: "list of nothing", args: "list nosuch", answers: map[string]string{"GET /v2/snaps?snaps=nosuch": `[]`},
		status: 1, err: "error: none of these snaps is installed\n",
	}, {
		name: "services", args: "services",
		answers: map[string]string{"GET /v2/apps?select=service": `[
			{"snap":"probe","name":"mgr","daemon":"simple","enabled":true,"active":true,"running-revision":"x1","current-revision":"x2",
			 "generations":[{"unit":"a","revision":"x1","processes":3},{"unit":"b","revision":"x1","processes":1},{"unit":"c","revision":"x2","processes":0}]},
			{"snap":"probe","name":"web","daemon":"simple","enabled":true,"activators":[{"Name":"b","Type":"socket"},{"Name":"a","Type":"socket"}]}]`},
		out: "Service    Startup  Current   Notes\n" +
			"probe.mgr  enabled  active    runs x1,4 left of x1\n" +
			"probe.web  enabled  inactive  socket-activated\n",
	}, {
		name: "services that stay", args: "services probe",
		answers: map[string]string{"GET /v2/apps?names=probe&select=service": `[
			{"snap":"probe","name":"a","enabled":true,"active":true,"running-revision":"x1","current-revision":"x2","seal":"partly sealed",
			 "seal-why":["1 file still writable by pid 8 (mapped into memory): db","devmode"]},
			{"snap":"probe","name":"b","enabled":true,"active":true,"running-revision":"x2","current-revision":"x2",
			 "generations":[{"unit":"a","revision":"x1","processes":2,"seal":"sealed"},
			 {"unit":"b","revision":"x1","processes":1,"seal":"not sealed","seal-why":["classic confinement"]}]}]`},
		out: "Service  Startup  Current  Notes\n" +
			"probe.a  enabled  active   runs x1,partly sealed (1 file still writable by pid 8 (mapped into memory): db; devmode)\n" +
			"probe.b  enabled  active   3 left of x1,not sealed (classic confinement)\n",
	}, {
		name: "no services", args: "services", answers: map[string]string{"GET /v2/apps?select=service": `[]`},
		err: "No snap has a service.\n",
	}, {
		name: "install", args: "install --dangerous " + file,
		answers: map[string]string{"POST /v2/snaps": "change 1", "GET /v2/changes/1/wait": doneOne, "GET /v2/snaps?snaps=probe": `[` + probeSnap + `]`},
		out:     "probe 1.0 installed\n", err: "Prepare\n",
	}, {
		name: "install of what is there", args: "install --dangerous " + file,
		answers: map[string]string{"POST /v2/snaps": "change 1", "GET /v2/changes/1/wait": `{"status":"Done","ready":true,"data":{"snap-name":"probe"}}`, "GET /v2/snaps?snaps=probe": `[` + probeSnap + `]`},
		out:     "probe 1.0 installed already\n",
	}, {
		name: "install fails", args: "install --dangerous " + file,
		answers: map[string]string{"POST /v2/snaps": "change 1", "GET /v2/changes/1/wait": `{"status":"Error","ready":true,"err":"cannot perform the following tasks:\n- Mount (no)"}`},
		status:  1, err: "error: cannot perform the following tasks:\n- Mount (no)\n",
	}, {
		name: "no wait", args: "install --dangerous --no-wait " + file,
		answers: map[string]string{"POST /v2/snaps": "change 7"}, out: "7\n",
	}, {
		name: "old daemon", args: "install --dangerous " + file,
		answers: map[string]string{"POST /v2/snaps": "change 1", "GET /v2/changes/1": `{"status":"Doing","tasks":[]}` + "\n---\n" + doneOne, "GET /v2/snaps?snaps=probe": `[` + probeSnap + `]`},
		out:     "probe 1.0 installed\n", err: "Prepare\n",
	}, {
		name: "install without a file", args: "install /nosuch.snap", status: 1,
		err: "error: cannot open \"/nosuch.snap\": open /nosuch.snap: no such file or directory\n",
	}, {
		name: "install by name", args: "install hello",
		answers: map[string]string{"POST /v2/snaps/hello": `error 400 {"message":"there is no store yet"}`},
		status:  1, err: "error: there is no store yet\n",
	}, {
		name: "remove", args: "remove probe",
		answers: map[string]string{"POST /v2/snaps/probe": "change 1", "GET /v2/changes/1/wait": doneOne}, out: "probe removed\n", err: "Prepare\n",
	}, {
		name: "remove a revision", args: "remove probe --revision x1",
		answers: map[string]string{"POST /v2/snaps/probe": "change 1", "GET /v2/changes/1/wait": doneOne}, out: "probe (revision x1) removed\n", err: "Prepare\n",
	}, {
		name: "remove what is gone", args: "remove probe",
		answers: map[string]string{"POST /v2/snaps/probe": `error 400 {"message":"snap \"probe\" is not installed","kind":"snap-not-installed","value":"probe"}`},
		err:     "snap \"probe\" is not installed\n",
	}, {
		name: "revert", args: "revert probe",
		answers: map[string]string{"POST /v2/snaps/probe": "change 1", "GET /v2/changes/1/wait": doneOne, "GET /v2/snaps/probe": probeSnap},
		out:     "probe reverted to 1.0\n", err: "Prepare\n",
	}, {
		name: "get one", args: "get system refresh.stop-timeout-max",
		answers: map[string]string{"GET /v2/snaps/system/conf?keys=refresh.stop-timeout-max": `{"refresh.stop-timeout-max":"10s"}`},
		out:     "10s\n",
	}, {
		name: "get one typed", args: "get -t probe a.b",
		answers: map[string]string{"GET /v2/snaps/probe/conf?keys=a.b": `{"a.b":"1"}`}, out: "\"1\"\n",
	}, {
		name: "get one listed", args: "get -l probe a",
		answers: map[string]string{"GET /v2/snaps/probe/conf?keys=a": `{"a":[1,2]}`}, out: "Key  Value\na    [1,2]\n",
	}, {
		name: "get several", args: "get system refresh refresh-mode",
		answers: map[string]string{"GET /v2/snaps/system/conf?keys=refresh%2Crefresh-mode": `{"refresh-mode":{"web":{"srv":"endure"}},"refresh":{"stop-timeout-max":"10s"}}`},
		out: "Key                       Value\n" +
			"refresh-mode.web.srv      endure\n" +
			"refresh.stop-timeout-max  10s\n",
	}, {
		name: "get a document", args: "get -d system refresh",
		answers: map[string]string{"GET /v2/snaps/system/conf?keys=refresh": `{"refresh":{"stop-timeout-max":"10s"}}`},
		out:     "{\n\t\"refresh\": {\n\t\t\"stop-timeout-max\": \"10s\"\n\t}\n}\n",
	}, {
		name: "get nothing", args: "get system", answers: map[string]string{"GET /v2/snaps/system/conf": `{}`},
		status: 1, err: "error: snap \"system\" has no option set\n",
	}, {
		name: "get what is not set", args: "get system x",
		answers: map[string]string{"GET /v2/snaps/system/conf?keys=x": `error 400 {"kind":"option-not-found","value":{"SnapName":"system","Key":"x"},"message":"snap \"system\" has no \"x\" configuration option"}`},
		status:  1, err: "error: snap \"system\" has no \"x\" configuration option\n",
	}, {
		name: "set", args: "set system refresh.stop-timeout-max=10s",
		answers: map[string]string{"PUT /v2/snaps/system/conf": "change 1", "GET /v2/changes/1/wait": doneOne}, err: "Prepare\n",
	}, {
		name: "set without a value", args: "set system refresh.stop-timeout-max", status: 64,
		err: "error: cannot set \"refresh.stop-timeout-max\": want KEY=VALUE, or KEY! to unset\n",
	}, {
		name: "set typed", args: "set -t system a=b", status: 64, err: "*",
	}, {
		name: "disable", args: "disable probe",
		answers: map[string]string{"POST /v2/snaps/probe": "change 1", "GET /v2/changes/1/wait": doneOne}, out: "probe disabled\n", err: "Prepare\n",
	}, {
		name: "enable", args: "enable probe",
		answers: map[string]string{"POST /v2/snaps/probe": "change 1", "GET /v2/changes/1/wait": doneOne}, out: "probe enabled\n", err: "Prepare\n",
	}, {
		name: "start", args: "start probe",
		answers: map[string]string{"POST /v2/apps": "change 1", "GET /v2/changes/1/wait": doneOne}, out: "Started.\n", err: "Prepare\n",
	}, {
		name: "conflict", args: "stop probe",
		answers: map[string]string{"POST /v2/apps": `error 409 {"message":"snap \"probe\" has \"refresh-snap\" change in progress","kind":"snap-change-conflict","value":{"snap-name":"probe","change-kind":"refresh-snap","change-id":"4"}}`},
		status:  10, err: "error: snap \"probe\" has \"refresh-snap\" change in progress (see 'snap tasks 4')\n",
	}, {
		name: "denied", args: "restart probe",
		answers: map[string]string{"POST /v2/apps": `error 401 {"message":"access denied","kind":"login-required"}`},
		status:  1, err: "error: access denied (only root may; run it with sudo)\n",
	}, {
		name: "empty error", args: "restart probe", answers: map[string]string{"POST /v2/apps": `error 500 {}`},
		status: 1, err: "error: server error: \"Internal Server Error\"\n",
	}, {
		name: "refresh", args: "refresh probe",
		answers: map[string]string{"POST /v2/snaps/probe": `error 400 {"message":"cannot refresh \"probe\": it is local"}`},
		status:  1, err: "error: cannot refresh \"probe\": it is local\n",
	}, {
		name: "changes", args: "changes --abs-time",
		answers: map[string]string{"GET /v2/changes?select=all": `[{"id":"1","status":"Done","summary":"Install","spawn-time":"2026-01-02T03:04:05Z","ready-time":"2026-01-02T03:04:06Z"},{"id":"12","status":"Doing","summary":"Refresh","spawn-time":"2026-01-02T03:04:07Z"}]`},
		out: "ID   Status  Spawn                 Ready                 Summary\n" +
			"1    Done    2026-01-02T03:04:05Z  2026-01-02T03:04:06Z  Install\n" +
			"12   Doing   2026-01-02T03:04:07Z  -                     Refresh\n\n",
	}, {
		name: "no changes", args: "changes", answers: map[string]string{"GET /v2/changes?select=all": `[]`}, err: "no changes found\n",
	}, {
		name: "changes of a number", args: "changes 12", status: 1,
		err: "error: cannot list changes of \"12\": that is no name of a snap; 'snap tasks 12' shows a change\n",
	}, {
		name: "change", args: "change --last=refresh --abs-time",
		answers: map[string]string{
			"GET /v2/changes?select=all": `[{"id":"1","kind":"refresh-snap"},{"id":"2","kind":"refresh-snap"},{"id":"3","kind":"remove-snap"}]`,
			"GET /v2/changes/2": `{"id":"2","tasks":[{"id":"1","status":"Done","summary":"Mount","spawn-time":"2026-01-02T03:04:05Z","ready-time":"2026-01-02T03:04:06Z"},
				{"id":"2","status":"Doing","summary":"Copy","spawn-time":"2026-01-02T03:04:05Z","progress":{"done":1,"total":3},"log":["2026-01-02T03:04:06Z INFO copied"]}]}`},
		out: "Status  Spawn                 Ready                 Summary\n" +
			"Done    2026-01-02T03:04:05Z  2026-01-02T03:04:06Z  Mount\n" +
			"Doing   2026-01-02T03:04:05Z  -                     Copy (33.33%)\n" +
			"\n......................................................................\nCopy\n\n2026-01-02T03:04:06Z INFO copied\n\n",
	}, {
		name: "no such change", args: "tasks --last=revert", answers: map[string]string{"GET /v2/changes?select=all": `[]`},
		status: 1, err: "error: cannot find a change of kind \"revert\"\n",
	}, {
		name: "no such change is fine", args: "tasks --last=revert?", answers: map[string]string{"GET /v2/changes?select=all": `[]`},
	}, {
		name: "timings", args: "debug timings 1",
		answers: map[string]string{"GET /v2/debug?aspect=change-timings&change-id=1": `[{"change-id":"1","total-duration":203000000,"change-timings":{"10":{"status":"Done","summary":"Last","doing-time":500000},"9":{"status":"Undone","summary":"First","doing-time":12000000,"undoing-time":3000000}}}]`},
		out: "ID   Status  Doing   Undoing  Summary\n" +
			"9    Undone  12ms    3ms      First\n" +
			"10   Done    0.50ms  -        Last\n\nTotal: 203ms\n",
	}, {
		name: "version", args: "version",
		answers: map[string]string{"GET /v2/system-info": `{"version":"9","series":"16","os-release":{"id":"debian","version-id":"12"},"kernel-version":"6.1"}`},
		out:     "snap    " + client.Version + "\nsnapd   9\nseries  16\ndebian  12\nkernel  6.1\n",
	}, {
		name: "unknown command", args: "bogus", status: 64, err: "error: cannot find a command \"bogus\": 'snap help --all' lists them\n",
	}, {
		name: "unknown flag", args: "list --bogus", status: 64, err: "error: unknown flag: --bogus\n",
	}, {
		name: "hold for how long", args: "refresh --hold=long web", status: 64,
		err: "error: cannot hold refreshes for \"long\": want a time such as 30m or 72h, or forever\n",
	}, {
		name: "hold and unhold", args: "refresh --hold --unhold", status: 64, err: "error: cannot use --hold and --unhold together\n",
	}, {
		name: "too few", args: "remove", status: 64, err: "error: cannot remove without an argument: want 'snap remove NAME...'\n",
	}, {
		name: "too many", args: "enable a b", status: 64, err: "error: cannot use \"b\": the command takes no more arguments\n",
	}, {
		name: "no warnings", args: "warnings", answers: map[string]string{"GET /v2/warnings": `[]`}, err: "No warnings.\n",
	}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.answers)
			status := w.execute(context.Background(), strings.Fields(c.args))
			out := w.out.String()
			if status != c.status || out != c.out || c.err != "*" && w.err.String() != c.err {
				t.Errorf("snap %s: status %d, want %d\n--- stdout\n%s--- want\n%s--- stderr\n%s--- want\n%s--- asked\n%s",
					c.args, status, c.status, out, c.out, w.err.String(), c.err, w.asked())
			}
		})
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"remove --purge --terminate probe":          `POST /v2/snaps/probe {"action":"remove","purge":true,"terminate":true}`,
		"remove a b":                                `POST /v2/snaps {"action":"remove","snaps":["a","b"]}`,
		"revert probe --revision 7":                 `POST /v2/snaps/probe {"action":"revert","revision":"7"}`,
		"revert --dry-run probe":                    `POST /v2/snaps/probe {"action":"revert","dry-run":true}`,
		"remove --dry-run probe":                    `POST /v2/snaps/probe {"action":"remove","dry-run":true}`,
		"start --enable probe.svc":                  `POST /v2/apps {"action":"start","names":["probe.svc"],"enable":true}`,
		`set probe a=1 b="x" c=y=z d={"e":null} f!`: `PUT /v2/snaps/probe/conf {"a":1,"b":"x","c":"y=z","d":{"e":null},"f":null}`,
		"set -s probe a=1":                          `PUT /v2/snaps/probe/conf {"a":"1"}`,
		"unset system a.b c":                        `PUT /v2/snaps/system/conf {"a.b":null,"c":null}`,
		"stop --disable probe":                      `POST /v2/apps {"action":"stop","names":["probe"],"disable":true}`,
		"restart --reload probe other":              `POST /v2/apps {"action":"restart","names":["probe","other"],"reload":true}`,
		"install --dry-run --dangerous /a/b.snap":   `POST /v2/snaps {"action":"install","dry-run":true,"path":"/a/b.snap","dangerous":true}`,
		"download --edge web":                       `POST /v2/download {"snap-name":"web","channel":"edge"}`,
		"refresh --unhold web":                      `POST /v2/snaps {"action":"unhold","snaps":["web"]}`,
		"refresh --hold web db":                     `POST /v2/snaps {"action":"hold","snaps":["web","db"],"time":"forever","hold-level":"general"}`,
		"refresh --hold":                            `POST /v2/snaps {"action":"hold","time":"forever","hold-level":"auto-refresh"}`,
		"abort 4":                                   `POST /v2/changes/4 {"action":"abort"}`,
		"changes probe":                             `GET /v2/changes?for=probe&select=all`,
		"services probe other.svc":                  `GET /v2/apps?names=probe%2Cother.svc&select=service`,
	} {
		w := newWorld(t, nil)
		w.execute(context.Background(), strings.Fields(args))
		if got := w.asked(); got != want {
			t.Errorf("snap %s asked\n%s\nwant\n%s", args, got, want)
		}
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	plan := client.Plan{Event: "local-install", Snap: "web", From: "x1", To: "x2", Services: []client.Step{
		{App: "db", Action: "keep", Why: "refresh-mode is endure", From: "x1", To: "x1", MainPID: 812, Workers: 20},
		{App: "http", Action: "restart", Why: "refresh-mode is restart", From: "x1", To: "x2", MainPID: 813, StopTimeout: 30e9, SendSIGKILL: true, Undo: "restart"},
		{App: "new", Action: "start", Why: "new in this revision", To: "x2", Enable: true},
		{App: "old", Action: "stop", Why: "not in the new revision", From: "x1"},
		{App: "off", Action: "leave", Why: "it is disabled"},
	}, Generations: []client.GenerationStep{{App: "db", Revision: "7", PIDs: []int{5, 6}, Action: "keep", Why: "it endures"}},
		Apps: []client.AppStep{{PID: 99, App: "cli", Action: "keep", Why: "apps keep running"}}}
	raw, err := json.Marshal(client.Plans{Plans: []client.Plan{plan}})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, map[string]string{"POST /v2/snaps": string(raw)})
	status := w.execute(context.Background(), []string{"install", "--dry-run", "--dangerous", "/x/web.snap"})
	const want = `Refresh of "web" from revision x1 to x2:
Service     Now          On refresh  Why
web.db      active       keep        refresh-mode is endure
web.http    active       restart     refresh-mode is restart
web.new     inactive     start       new in this revision
web.old     active       stop        not in the new revision
web.off     inactive     stay down   it is disabled
web.db (7)  2 processes  keep        it endures
web.cli     pid 99       keep        apps keep running

web.db keeps process 812 and 20 workers on revision x1.
web.http has 30s to stop, then it is killed.
Should the refresh fail once it has stopped, web.http is started again on revision x1.
web.new gets enabled.

Nothing was changed.
`
	if status != 0 || w.out.String() != want || w.err.Len() > 0 {
		t.Errorf("status %d, stderr %q, stdout\n%s\nwant\n%s", status, w.err.String(), w.out.String(), want)
	}
}
