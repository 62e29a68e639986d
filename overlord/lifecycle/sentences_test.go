// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"endured/snap"
)

// everyWay is a snap whose services are told apart by what happens to them.
const everyWay = `name: web
version: '1'
summary: s
description: d
apps:
  web: {command: bin/x}
  alone: {command: bin/x, daemon: simple, refresh-mode: endure, restart-condition: always}
  careful: {command: bin/x, daemon: notify, stop-timeout: 1h, send-sigkill: false}
  done: {command: bin/x, daemon: oneshot}
  heir: {command: bin/x, daemon: simple, refresh-mode: sigterm, stop-timeout: 5s}
  heirs: {command: bin/x, daemon: simple, refresh-mode: sigint-all}
  told: {command: bin/x, daemon: simple, refresh-mode: sigusr1}
  all-told: {command: bin/x, daemon: simple, refresh-mode: sighup-all}
  stops: {command: bin/x, daemon: simple, stop-mode: sighup, restart-condition: never}
  plain: {command: bin/x, daemon: simple}
  ruled: {command: bin/x, daemon: simple, refresh-mode: endure}
`

func TestSentences(t *testing.T) {
	t.Parallel()
	info, err := snap.Parse([]byte(everyWay))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, ceiling := range []time.Duration{0, 10 * time.Second} {
		list, err := Sentences(info, Override{"ruled": "restart"}, ceiling, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# ceiling %s\n", ceiling)
		for _, s := range list {
			if ceiling == 0 || s.App == "careful" {
				fmt.Fprintf(&b, "%s %s %s: %s\n", s.App, s.Event, s.Action, s.Text)
			}
			if !strings.HasSuffix(s.Text, ".") || strings.Count(s.Text, ".") != 1 && !strings.Contains(s.Text, "0.") {
				t.Errorf("not one sentence: %s", s.Text)
			}
		}
	}
	compareGolden(t, filepath.Join("testdata", "sentences.golden"), b.String())
	info.AddHooks(snap.HookPostRefresh, snap.HookRemove, snap.HookGateAutoRefresh)
	hooks := HookSentences(info)
	if len(hooks) != 3 || hooks[0].Hook != snap.HookGateAutoRefresh || !strings.Contains(hooks[1].Text, "(it has 15s, then SIGKILL)") ||
		!strings.Contains(hooks[2].Text, "(it has 10m0s)") {
		t.Errorf("%+v", hooks)
	}
	for _, rev := range []snap.Revision{-1, 1, 7} {
		info.Revision = rev
		again, err := Sentences(info, nil, 0, nil)
		if err != nil || len(again) != 10*7+6 { // six leave something
			t.Errorf("revision %s: %d sentences, %v", rev, len(again), err)
		}
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	const head = "name: web\nversion: '1'\nsummary: s\ndescription: d\nplugs: {network-bind: }\napps:\n"
	for app, want := range map[string]string{
		"a: {command: bin/x}":                                                                                            "",
		"a: {command: bin/x, refresh-mode: ignore-running}":                                                              "apps.a.refresh-mode ineffective",
		"a: {command: bin/x, daemon: forking, refresh-mode: sigterm-all}":                                                "",
		"a: {command: bin/x, daemon: forking, refresh-mode: sigusr1, pid-file: $SNAP_COMMON/p}":                          "",
		"a: {command: bin/x, daemon: oneshot, refresh-mode: endure}":                                                     "apps.a.refresh-mode ineffective",
		"a: {command: bin/x, daemon: simple, refresh-mode: endure, sockets: {s: {listen-stream: $SNAP_DATA/s}}}":         "apps.a.sockets.s.listen-stream dangerous",
		"a: {command: bin/x, daemon: simple, refresh-mode: endure, sockets: {s: {listen-stream: $SNAP_COMMON/s}}}":       "",
		"a: {command: bin/x, daemon: simple, sockets: {s: {listen-stream: $SNAP_DATA/s}}}":                               "",
		"a: {command: bin/x $SNAP_DATA/db, daemon: simple, refresh-mode: sighup}":                                        "apps.a.command dangerous",
		"a: {command: bin/x $SNAP_DATA/db, daemon: simple, refresh-mode: restart}":                                       "",
		"a: {command: bin/x, daemon: simple, refresh-mode: endure, environment: {DB: $SNAP_DATA/db}}":                    "apps.a.environment.DB dangerous",
		"a: {command: bin/x, daemon: simple, stop-timeout: 1m}":                                                          "apps.a.stop-timeout ineffective",
		"a: {command: bin/x, daemon: simple, send-sigkill: false, refresh-mode: endure}":                                 "apps.a.send-sigkill ineffective",
		"a: {command: bin/x, daemon: simple, refresh-mode: endure}\n  b: {command: bin/x, refresh-mode: ignore-running}": "apps.b.refresh-mode ineffective",
	} {
		info, err := snap.Parse([]byte(head + "  " + app + "\n"))
		if err != nil {
			t.Errorf("%s: %v", app, err)
			continue
		}
		var got []string
		for _, f := range Lint(info, 30*time.Second) {
			got = append(got, f.Key+" "+f.Severity)
			if f.Message == "" || f.Fix == "" || strings.HasSuffix(f.Message, ".") || strings.HasSuffix(f.Fix, ".") {
				t.Errorf("%s: %+v", app, f)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: found %q, want %q", app, got, want)
		}
	}
}
