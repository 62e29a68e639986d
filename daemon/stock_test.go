// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"endured/daemon"
	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/servicestate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// TestStockClient drives Debian's own client against the daemon. STOCK_SNAP
// names its binary, as unpacked (not installed) from the package snapd.
func TestStockClient(t *testing.T) {
	t.Parallel()
	stock := os.Getenv("STOCK_SNAP")
	if stock == "" {
		t.Skip("STOCK_SNAP is not set")
	}
	f := newFixture(t)
	f.as(daemon.Peer{UID: 0, PID: os.Getpid(), Accepted: now()})
	f.snaps = []recipes.SnapView{probeView(-1, true)}
	f.conf = map[string]any{"refresh.stop-timeout-max": "10s"}
	f.services = []servicestate.View{{Snap: "probe", App: "svc", Daemon: "simple", Enabled: true, Active: true,
		Activators: []servicestate.Activator{{Name: "s", Type: "socket", Active: true, Enabled: true}}}}
	run := state.NewRunner(f.state, slog.New(slog.DiscardHandler))
	run.AddHandler("some-task", func(context.Context, *state.Task) (state.Commit, error) { return nil, nil }, nil)
	run.Start(context.Background())
	t.Cleanup(run.Stop)
	if err := f.state.Update(func(tx *state.Tx) error { tx.Warnf("mind the gap"); return nil }); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "probe_1.0_all.snap")
	if err := os.WriteFile(file, []byte("squash"), 0o644); err != nil {
		t.Fatal(err)
	}
	snap := func(args ...string) (string, int) {
		cmd := exec.Command(stock, args...)
		cmd.Env = append(os.Environ(), "SNAPPY_GLOBAL_ROOT="+f.dirs.Root(), "SNAP_REEXEC=0", "LC_ALL=C",
			"PATH="+f.dirs.Bin()+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, c := range []struct {
		args   string
		status int
		want   []string
	}{
		{"version", 0, []string{"snapd   1.2.3", "series  16"}},
		{"list", 0, []string{"Name   Version  Rev  Tracking  Publisher  Notes", "probe  1.0      x1   -         -          -"}},
		{"list --all", 0, []string{"probe"}},
		{"services", 0, []string{"Service", "probe.svc  enabled  active   socket-activated"}},
		{"install --dangerous " + file, 0, []string{"probe 1.0 installed"}},
		{"install " + file, 1, []string{"cannot find signatures with metadata for snap"}},
		{"revert probe", 0, []string{"probe reverted to 1.0"}},
		{"remove probe", 0, []string{"probe removed"}},
		{"enable probe", 0, []string{"probe enabled"}},
		{"disable probe", 0, []string{"probe disabled"}},
		{"start --enable probe", 0, []string{"Started."}},
		{"stop probe.svc", 0, []string{"Stopped."}},
		{"restart probe", 0, []string{"Restarted."}},
		{"changes", 0, []string{"ID   Status  Spawn", "Do install-snap"}},
		{"tasks --last=install", 0, []string{"Do something", "pid 4242 was there"}},
		{"debug timings 1", 0, []string{"ID   Status", "Do something"}},
		{"get system refresh.stop-timeout-max", 0, []string{"10s"}},
		{"get -d system refresh.stop-timeout-max", 0, []string{`"refresh.stop-timeout-max": "10s"`}},
		{"set system refresh.stop-timeout-max=5s", 0, nil},
		{"unset system refresh.stop-timeout-max", 0, nil},
		{"refresh probe", 1, []string{"snap install --dangerous ./probe_*.snap"}},
		{"install hello", 1, []string{"no store yet"}},
		{"info probe", 0, []string{"name:      probe", "probe.svc"}},
		{"warnings", 0, []string{"mind the gap"}},
		{"okay", 0, nil},
		{"connections", 1, []string{"not found"}},
	} {
		out, status := snap(strings.Fields(c.args)...)
		if status != c.status {
			t.Errorf("snap %s: status %d, want %d:\n%s", c.args, status, c.status, out)
		}
		joined := strings.Join(strings.Fields(out), " ")
		for _, w := range c.want {
			if !strings.Contains(out, w) && !strings.Contains(joined, w) {
				t.Errorf("snap %s: no %q in\n%s", c.args, w, out)
			}
		}
	}

	f.fake.mu.Lock()
	f.err = &snapstate.ConflictError{Snap: "probe", ChangeKind: "refresh-snap"}
	f.fake.mu.Unlock()
	if out, status := snap("stop", "probe"); status != 10 || !strings.Contains(out, `has "refresh-snap" change in progress`) {
		t.Errorf("conflict: %d %s", status, out)
	}
	f.fake.mu.Lock()
	f.err = &lifecycle.UnknownServiceError{Event: lifecycle.Stop, Snap: "probe", App: "x"}
	f.fake.mu.Unlock()
	if out, status := snap("stop", "probe.x"); status != 1 || !strings.Contains(out, "no such service") {
		t.Errorf("no service: %d %s", status, out)
	}
}
