// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"endured/snap"
)

// decideCell decides one cell of the table, bent once more.
func decideCell(t *testing.T, e Event, sitName string, m snap.RefreshMode, more func(*Input)) (*Plan, error) {
	t.Helper()
	for _, sit := range situations {
		if sit.name == sitName {
			in := inputFor(e, sit, m)
			if more != nil {
				more(&in)
			}
			return Decide(in)
		}
	}
	t.Fatalf("no situation %q", sitName)
	return nil, nil
}

func mustCell(t *testing.T, e Event, sitName string, m snap.RefreshMode) *Plan {
	t.Helper()
	p, err := decideCell(t, e, sitName, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What DESIGN says in so many words, written down apart from the golden table.
func TestDecisions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event   Event
		sit     string
		mode    snap.RefreshMode
		action  Action
		decider Decider
		to      snap.Revision
	}{
		{Refresh, "running", "", DoRestart, BySnap, 3},
		{Refresh, "running", "endure", Keep, BySnap, 2},
		{LocalInstall, "running", "endure", Keep, BySnap, 2},
		{Revert, "running", "endure", Keep, BySnap, 2},
		{Refresh, "running from rev 1", "endure", Keep, BySnap, 1},
		{Refresh, "running from rev 1", "sigterm", SignalStart, BySnap, 3},
		{Revert, "running from rev 3", "restart", Keep, ByEvent, 3},
		{Refresh, "operator: restart", "endure", DoRestart, ByOperator, 3},
		{Refresh, "operator: endure", "sigterm-all", Keep, ByOperator, 2},
		{Refresh, "vanished, running", "endure", DoStop, ByNew, 0},
		{Refresh, "becomes an app", "endure", DoStop, ByNew, 0},
		{Refresh, "new", "endure", DoStart, ByNew, 3},
		{Refresh, "was an app", "", DoStart, ByNew, 3},
		{Refresh, "new, install-mode", "", LeaveDown, ByNew, 0},
		{Refresh, "disabled", "", LeaveDown, ByOperator, 0},
		{Refresh, "stopped by hand", "", LeaveDown, ByOperator, 0},
		{Refresh, "returns, by hand", "", LeaveDown, ByOperator, 0},
		{Refresh, "not running", "endure", DoStart, ByEvent, 3},
		{Refresh, "socket, idle", "", LeaveDown, ByNew, 0},
		{Refresh, "oneshot, done", "endure", DoStart, ByEvent, 3},
		{Refresh, "oneshot, running", "endure", Keep, BySnap, 2},
		{Refresh, "oneshot, active", "", DoRestart, BySnap, 3},
		{Stop, "running", "endure", DoStop, ByEvent, 0},
		{Restart, "running from rev 1", "endure", DoRestart, ByEvent, 2},
		{Restart, "not running", "", LeaveDown, ByEvent, 0},
		{Restart, "named, not running", "", DoStart, ByEvent, 2},
		{Disable, "running", "endure", DoStop, ByEvent, 0},
		{Remove, "running", "endure", DoStop, ByEvent, 0},
		{Shutdown, "running", "endure", DoStop, ByEvent, 0},
	} {
		s := mustCell(t, c.event, c.sit, c.mode).Services[0]
		if s.Action != c.action || s.Decider != c.decider || s.To != c.to {
			t.Errorf("%s, %s, %q: %s by %s to %s, want %s by %s to %s", c.event, c.sit, c.mode,
				s.Action, s.Decider, s.To, c.action, c.decider, c.to)
		}
	}
}

func TestSignalClasses(t *testing.T) {
	t.Parallel()
	for _, m := range allModes {
		signal := m.Signal()
		if signal == "" {
			continue
		}
		s := mustCell(t, Refresh, "3 workers", m).Services[0]
		stop := signal == "SIGTERM" || signal == "SIGINT"
		if s.Signal != signal || s.All != m.All() || s.AfterRelease == stop ||
			(s.Action == SignalStart) != stop || s.Survivors == m.All() {
			t.Errorf("%s: %+v", m, s)
		}
		// The stop is bounded; a notification costs nothing to undo.
		if (s.StopTimeout == 30*time.Second) != stop || (s.Undo == "restart") != stop {
			t.Errorf("%s: bound %s, undo %q", m, s.StopTimeout, s.Undo)
		}
	}
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event  Event
		sit    string
		mode   snap.RefreshMode
		action Action
		signal string
	}{
		{Refresh, "scope of rev 1", "sigterm", Keep, ""},
		{Refresh, "scope of rev 1", "sigusr1-all", Signal, "SIGUSR1"},
		{Refresh, "operator: endure", "sigusr1-all", Keep, ""},
		{Refresh, "vanished, scope", "endure", DoStop, ""},
		{Stop, "scope of rev 1", "sigterm", DoStop, ""},
		{Restart, "scope of rev 1", "endure", DoStop, ""},
		{Stop, "stop-mode: sigint", "", Keep, ""},
		{Disable, "stop-mode: sigint", "", DoStop, "SIGINT"},
		{Remove, "stop-mode: sigint", "", DoStop, "SIGINT"},
	} {
		g := mustCell(t, c.event, c.sit, c.mode).Generations
		if len(g) != 1 || g[0].Action != c.action || g[0].Signal != c.signal {
			t.Errorf("%s, %s, %q: %+v", c.event, c.sit, c.mode, g)
		}
	}
	if g := mustCell(t, Start, "scope of rev 1", "").Generations; len(g) != 0 {
		t.Errorf("start plans for scopes: %+v", g)
	}
}

func TestStopMode(t *testing.T) {
	t.Parallel()
	for e, survive := range map[Event]bool{Stop: true, Restart: true, Disable: false, Remove: false, Shutdown: false} {
		s := mustCell(t, e, "stop-mode: sigint", "").Services[0]
		all := !survive && e != Shutdown // which ends the rest by SIGTERM
		if s.Signal != "SIGINT" || s.Survivors != survive || s.All != all {
			t.Errorf("%s: %+v", e, s)
		}
	}
	s := mustCell(t, Refresh, "stop-mode: sigint", "").Services[0]
	if s.Mode != "sigint" || s.Action != SignalStart || !s.Survivors {
		t.Errorf("refresh: %+v", s)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for _, e := range []Event{Refresh, Stop, Remove} {
		if s := mustCell(t, e, "ceiling 10s", "").Services[0]; s.StopTimeout != 10*time.Second || !s.Clamped || !s.SendSIGKILL {
			t.Errorf("%s: %+v", e, s)
		}
		if s := mustCell(t, e, "send-sigkill: false", "").Services[0]; s.SendSIGKILL || s.StopTimeout != 30*time.Second {
			t.Errorf("%s: %+v", e, s)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	_, err := decideCell(t, LocalInstall, "running from rev 3", "endure", nil)
	var busy *BusyRevisionError
	if !errors.As(err, &busy) || busy.Revision != 3 || !reflect.DeepEqual(busy.PIDs, []int{100}) {
		t.Errorf("busy: %v", err)
	}
	_, err = decideCell(t, Refresh, "scope of rev 1", "", func(in *Input) { in.New = in.Started[1] })
	if !errors.As(err, &busy) || err.Error() != `cannot use revision 1 of snap "web": processes still run from it (pids 200, 201)` {
		t.Errorf("busy scope: %v", err)
	}
	for _, e := range []Event{Remove, Disable} {
		_, err = decideCell(t, e, "apps run", "", nil)
		var running *RunningAppsError
		if !errors.As(err, &running) || len(running.Apps) != 2 || running.Apps[0].PID != 300 {
			t.Errorf("%s: %v", e, err)
		}
		p := mustCell(t, e, "apps run, terminate", "")
		if len(p.Apps) != 2 || p.Apps[0].Action != DoStop {
			t.Errorf("%s: %+v", e, p.Apps)
		}
	}
	_, err = decideCell(t, Stop, "running", "", func(in *Input) { in.Only = []string{"edit"} })
	var unknown *UnknownServiceError
	if !errors.As(err, &unknown) || err.Error() != `cannot stop web.edit: snap "web" has no such service` {
		t.Errorf("unknown: %v", err)
	}
	for name, in := range map[string]Input{
		"nothing": {}, "no new": {Event: Refresh, Old: &snap.Info{}}, "no current": {Event: Remove},
		"two snaps": {Event: Refresh, Old: &snap.Info{Name: "a"}, New: &snap.Info{Name: "b"}},
	} {
		if p, err := Decide(in); err == nil || p != nil || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	_, err = decideCell(t, Refresh, "running", "ignore-running", nil)
	if err == nil {
		t.Error("a service with ignore-running is decided")
	}
}

// Services come in start order of the new revision, those it lacks last.
func TestOrder(t *testing.T) {
	t.Parallel()
	in := inputFor(Refresh, situations[0], "")
	add := func(i *snap.Info, name string, after ...string) {
		i.Apps[name] = &snap.App{Snap: i, Name: name, Daemon: "simple", After: after}
	}
	add(in.Old, "gone")
	add(in.New, "aaa", "db")
	add(in.New, "zzz")
	in.New.Apps["db"].After = []string{"zzz"}
	in.Observed.Services["gone"] = Service{Running: true, MainPID: 4, Revision: 2}
	p, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Services {
		got = append(got, s.App)
	}
	if want := []string{"zzz", "db", "aaa", "gone"}; !reflect.DeepEqual(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// A plan is committed and followed by a later daemon, so it survives JSON.
func TestPlanJSON(t *testing.T) {
	t.Parallel()
	for _, sit := range []string{"stop-mode: sigint", "apps run", "socket, running", "ceiling 10s"} {
		p := mustCell(t, Refresh, sit, "sigterm")
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back Plan
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*p, back) {
			t.Errorf("%s: %s came back as %+v", sit, b, back)
		}
	}
}

func TestActivators(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event  Event
		sit    string
		mode   snap.RefreshMode
		want   Action
		enable bool
	}{
		{Refresh, "running", "", "", false},
		{Refresh, "socket, idle", "", Keep, false},
		{Refresh, "gains a socket", "restart", DoStart, true},
		{Refresh, "gains a socket", "endure", Keep, true}, // systemd opens no socket of an active service
		{Refresh, "new, socket", "", DoStart, true},
		{Start, "socket, by hand", "", DoStart, false},
		{Stop, "socket, running", "", DoStop, false},
		{Disable, "socket, idle", "", DoStop, false},
		{Restart, "socket, running", "", Keep, false},
	} {
		s := mustCell(t, c.event, c.sit, c.mode).Services[0]
		if s.Activators != c.want || s.Enable != c.enable {
			t.Errorf("%s, %s, %q: activators %q, enable %t", c.event, c.sit, c.mode, s.Activators, s.Enable)
		}
	}
}
