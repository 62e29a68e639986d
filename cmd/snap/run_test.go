// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"endured/interfaces/mount"
)

const runYAML = `name: probe
version: "1.0"
confinement: strict
environment:
  GREETING: hello $LANG
apps:
  probe:
    command: bin/probe --data $SNAP_DATA --word $GREETING $UNSET
    command-chain: [bin/chain]
  svc:
    command: bin/svc
    daemon: simple
`

// ran is what the process would have been replaced by.
type ran struct {
	path string
	argv []string
	env  []string

	parts        []mount.Part
	capabilities []string
}

func newRunWorld(t *testing.T) (*world, *ran) {
	t.Helper()
	w := newWorld(t, map[string]string{"POST /v2/track": `{"revision":"x3"}`})
	meta := filepath.Join(w.dirs.Snap("probe"), "x3", "meta")
	if err := os.MkdirAll(meta, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(meta, "snap.yaml"), []byte(runYAML), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("x3", w.dirs.Current("probe")); err != nil {
		t.Fatal(err)
	}
	w.uid = os.Getuid()
	w.home = t.TempDir()
	r := &ran{}
	w.enterSandbox = func(parts []mount.Part, capabilities []string, _ bool) (bool, []error, error) {
		r.parts, r.capabilities = parts, capabilities
		return false, nil, nil
	}
	w.exec = func(path string, argv, env []string) error {
		r.path, r.argv, r.env = path, argv, env
		return nil
	}
	return w, r
}

func TestRun(t *testing.T) {
	t.Parallel()
	w, r := newRunWorld(t)
	if status := w.execute(context.Background(), []string{"run", "probe", "--flag", "a b"}); status != 0 || w.err.Len() > 0 {
		t.Fatalf("status %d: %s", status, w.err.String())
	}
	root := filepath.Join(w.dirs.Snap("probe"), "x3")
	want := []string{root + "/bin/chain", root + "/bin/probe", "--data", "/var/snap/probe/x3", "--word", "hello C", "--flag", "a b"}
	if r.path != want[0] || !reflect.DeepEqual(r.argv, want) {
		t.Errorf("ran %s %q\nwant %q", r.path, r.argv, want)
	}
	for _, v := range []string{"LANG=C", "SNAP_REVISION=x3", "SNAP_NAME=probe", "SNAP_USER_DATA=" + w.home + "/snap/probe/x3",
		"HOME=" + w.home + "/snap/probe/x3", "SNAP_REAL_HOME=" + w.home, "GREETING=hello C"} {
		if !slices.Contains(r.env, v) {
			t.Errorf("environment lacks %s: %q", v, r.env)
		}
	}
	if got := w.asked(); got != `POST /v2/track {"snap":"probe","app":"probe"}` {
		t.Errorf("asked %s", got)
	}
	if link, err := os.Readlink(filepath.Join(w.home, "snap/probe/current")); link != "x3" {
		t.Errorf("user data's current is %q, %v", link, err)
	}
	// As /snap/bin/probe would.
	*r = ran{}
	if err := w.runApp(context.Background(), "probe", []string{"--help"}); err != nil || r.argv[len(r.argv)-1] != "--help" {
		t.Errorf("through a link: %v, %q", err, r.argv)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	w, r := newRunWorld(t)
	w.mu.Lock()
	delete(w.answers, "POST /v2/track") // as the daemon: it refuses
	w.mu.Unlock()
	for name, want := range map[string]string{
		"nosuch":    `cannot find snap "nosuch"`,
		"probe.no":  `cannot find app "no" in "probe"`,
		"probe.svc": `cannot run probe.svc: it is a service`,
		"../x":      `cannot run "../x"`,
	} {
		err := w.runApp(context.Background(), name, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if r.path != "" {
		t.Errorf("ran %q", r.path)
	}
}

func TestRunWithoutDaemonWarns(t *testing.T) {
	t.Parallel()
	w, r := newRunWorld(t)
	w.mu.Lock()
	delete(w.answers, "POST /v2/track")
	w.mu.Unlock()
	if err := w.runApp(context.Background(), "probe", nil); err != nil || r.path == "" || !strings.Contains(w.err.String(), "warning: snapd does not know") {
		t.Errorf("%v, ran %q, told %q", err, r.path, w.err.String())
	}
}

// TestRunSandbox: root's is what the daemon says, with a runtime directory of
// its own in what hides the host's, or without the daemon what every strict app
// has; a user's is left as it is.
func TestRunSandbox(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answer string
		uid          int
		parts, caps  string
	}{
		{"root", `{"revision":"x3","sandbox":{"strict":true,"mounts":[{"target":"ROOT/run"},{"source":"/a","target":"/b","read-only":true}],"capabilities":["CAP_KILL"]}}`, 0,
			"[>ROOT/run false false /run/user/0/snap.probe>/run/user/0/snap.probe false true /a>/b true false]", "[CAP_KILL]"},
		{"strict without any", `{"revision":"x3","sandbox":{"strict":true}}`, 0, "[]", "[]"},
		{"classic", `{"revision":"x3","sandbox":{}}`, 0, "[]", "<nil>"},
		{"user", `{"revision":"x3","sandbox":{"strict":true,"mounts":[{"target":"ROOT/run"}],"capabilities":["CAP_KILL"]}}`, 1000, "[]", "<nil>"},
		{"no daemon", "", 0, "*>ROOT/run false true", "[CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETPCAP CAP_SETUID]"},
	} {
		w, r := newRunWorld(t)
		fill := strings.NewReplacer("ROOT", strings.TrimSuffix(w.dirs.Root(), "/"))
		w.uid = c.uid
		w.mu.Lock()
		if w.answers["POST /v2/track"] = []string{fill.Replace(c.answer)}; c.answer == "" {
			delete(w.answers, "POST /v2/track")
		}
		w.mu.Unlock()
		err := w.runApp(context.Background(), "probe", nil)
		caps := fmt.Sprint(r.capabilities)
		if r.capabilities == nil {
			caps = "<nil>"
		}
		var shown []string
		for _, p := range r.parts {
			shown = append(shown, fmt.Sprint(p.Source, ">", p.Target, " ", p.ReadOnly, p.Optional))
		}
		parts, want := fmt.Sprint(shown), fill.Replace(c.parts)
		some, part := strings.CutPrefix(want, "*")
		if err != nil || r.path == "" || parts != want && !(part && strings.Contains(parts, some)) || caps != c.caps {
			t.Errorf("%s: %v, %s, %s", c.name, err, parts, caps)
		}
	}
}

// TestRunWaitsForTheSwitch: the daemon answers when a switch is over, with the
// revision that is current then; what "current" said before does not count.
func TestRunWaitsForTheSwitch(t *testing.T) {
	t.Parallel()
	w, r := newRunWorld(t)
	meta := filepath.Join(w.dirs.Snap("probe"), "x4", "meta")
	if err := os.MkdirAll(meta, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(meta, "snap.yaml"), []byte(strings.Replace(runYAML, "bin/probe", "bin/newer", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.answers["POST /v2/track"] = []string{`{"revision":"x4"}`}
	w.mu.Unlock()
	told, over := make(chan struct{}), make(chan struct{})
	w.app.err = writerFunc(func(p []byte) {
		if want := "waiting for snapd: snap \"probe\" may be being refreshed\n"; string(p) != want {
			t.Errorf("it said %q, want %q", p, want)
		}
		close(told)
	})
	w.app.patience = time.Millisecond
	w.hook = func(string) { <-over }
	ended := make(chan error, 1)
	go func() { ended <- w.runApp(context.Background(), "probe", nil) }()
	select {
	case <-told:
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("it did not say that it waits")
	}
	if r.path != "" {
		t.Errorf("under the switch: ran %q", r.path)
	}
	close(over)
	if err := <-ended; err != nil || !slices.Contains(r.env, "SNAP_REVISION=x4") || !strings.HasSuffix(r.argv[1], "/x4/bin/newer") {
		t.Errorf("after the switch: %v, ran %q", err, r.argv)
	}
}

// TestRunBringsTheUsersData: a revision that runs for the first time finds what
// the user had, and where that fails it does not run.
func TestRunBringsTheUsersData(t *testing.T) {
	t.Parallel()
	w, r := newRunWorld(t)
	old := filepath.Join(w.home, "snap/probe/x2")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "notes"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(w.home, "snap/probe/.x3.copying")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil { // removed: it looks like what a crash left
		t.Fatal(err)
	}
	if err := w.runApp(context.Background(), "probe", nil); err != nil || r.path == "" {
		t.Fatalf("%v, ran %q", err, r.path)
	}
	if got, err := os.ReadFile(filepath.Join(w.home, "snap/probe/x3/notes")); string(got) != "mine" {
		t.Errorf("the user's data is %q, %v", got, err)
	}
	if _, err := os.Lstat(blocked); err == nil {
		t.Error("what a crash left is still there")
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func TestHumanTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 1, 0, 0, 0, time.UTC)
	for ago, want := range map[time.Duration]string{
		0:                   "today at 01:00 UTC",
		2 * time.Hour:       "yesterday at 23:00 UTC",
		26 * time.Hour:      "2 days ago, at 23:00 UTC",
		30 * 24 * time.Hour: "2026-02-08",
		-24 * time.Hour:     "tomorrow at 01:00 UTC",
	} {
		if got := humanTime(now.Add(-ago), now, false); got != want {
			t.Errorf("%v ago: %q, want %q", ago, got, want)
		}
	}
	if got := humanTime(time.Time{}, now, false); got != "-" {
		t.Errorf("no time: %q", got)
	}
}
