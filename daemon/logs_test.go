// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"endured/client"
	"endured/daemon"
	"endured/overlord/servicestate"
)

func TestLogs(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.services = []servicestate.View{{Snap: "probe", App: "svc", Daemon: "simple"}}
	script := `#!/bin/sh
echo "$@" >"$0.args"
echo '{"__REALTIME_TIMESTAMP":"1700000000000000","MESSAGE":"ready","SYSLOG_IDENTIFIER":"probe.svc","_PID":"42"}'
echo 'nonsense'
echo '{"__REALTIME_TIMESTAMP":"1700000001000000","MESSAGE":[104,105,255],"SYSLOG_IDENTIFIER":["a","b"],"_PID":null}'
case "$*" in *--follow*) exec sleep 100 ;; esac
`
	if err := os.WriteFile(filepath.Join(f.dirs.Root(), "journalctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var got []string
	collect := func(l client.Log) error {
		got = append(got, l.String())
		return nil
	}
	if err := f.client.Logs(ctx, []string{"probe"}, 5, false, collect); err != nil {
		t.Fatal(err)
	}
	want := "2023-11-14T22:13:20Z probe.svc[42]: ready\n2023-11-14T22:13:21Z a[-]: hi\xff"
	if text := strings.Join(got, "\n"); text != want && text != strings.ToValidUTF8(want, "\uFFFD") {
		t.Errorf("%q\nwant %q", text, want)
	}
	args, _ := os.ReadFile(filepath.Join(f.dirs.Root(), "journalctl.args"))
	for _, w := range []string{"--unit=snap.probe.svc.service", "--unit=snap.probe.svc-r*.scope", "--lines=5", "--output=json"} {
		if !strings.Contains(string(args), w) {
			t.Errorf("journalctl got %s, want %s", args, w)
		}
	}
	// a follower that leaves, and a daemon that goes
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	seen := 0
	err := f.client.Logs(ctx, nil, -1, true, func(client.Log) error {
		if seen++; seen == 2 {
			go func() { _ = f.daemon.Shutdown(ctx) }()
		}
		return nil
	})
	if err != nil || seen != 2 || ctx.Err() != nil {
		t.Errorf("follow: %v, %d lines, %v", err, seen, ctx.Err())
	}
}

func TestLogsRefused(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	none := func(client.Log) error { return nil }
	if err := f.client.Logs(ctx, nil, 1, false, none); !client.IsKind(err, client.KindAppNotFound) {
		t.Errorf("without services: %v", err)
	}
	f.as(daemon.Peer{UID: 1000})
	if err := f.newClient().Logs(ctx, nil, 1, false, none); !client.IsKind(err, client.KindLoginRequired) {
		t.Errorf("as a user: %v", err)
	}
}
