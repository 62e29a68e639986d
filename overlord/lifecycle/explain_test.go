// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"endured/snap"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event Event
		sit   string
		mode  snap.RefreshMode
		want  []string
	}{
		{Refresh, "3 workers", "endure", []string{
			"web.db keeps running on revision 2 (pid 100, 3 workers): refresh-mode is endure"}},
		{Refresh, "running", "", []string{
			"web.db restarts from revision 2 to 3 (pid 100): restart is the default"}},
		{Refresh, "3 workers", "sigterm", []string{
			"web.db gets SIGTERM on revision 2, and revision 3 starts after it (pid 100, 3 workers left running): refresh-mode is sigterm"}},
		{Refresh, "3 workers", "sigusr2-all", []string{
			"web.db gets SIGUSR2 in every process after the switch, on revision 2 (pid 100, 3 workers): refresh-mode is sigusr2-all"}},
		{Refresh, "ceiling 10s", "", []string{
			"web.db restarts from revision 2 to 3 (pid 100, has 10s, the operator's limit): restart is the default"}},
		{Refresh, "send-sigkill: false", "", []string{
			"web.db restarts from revision 2 to 3 (pid 100, never killed): restart is the default"}},
		{Refresh, "new", "", []string{"web.db starts on revision 3 (gets enabled): a new service"}},
		{Refresh, "socket, idle", "", []string{"web.db is not started: its socket starts it"}},
		{Refresh, "disabled", "", []string{"web.db is not started: disabled"}},
		{Restart, "running", "endure", []string{"web.db restarts on revision 2 (pid 100): asked to restart"}},
		{Remove, "scope of rev 1", "", []string{
			"web.db stops on revision 2 (pid 100): the snap is removed",
			"2 processes in snap.web.db-r1-7.scope stop on revision 1: the snap is removed"}},
		{Refresh, "apps run", "endure", []string{
			"web.db keeps running on revision 2 (pid 100): refresh-mode is endure",
			"web.edit keeps running on revision 2 (pid 300): apps endure",
			"web.edit keeps running on revision 1 (pid 301): apps endure"}},
	} {
		if got := mustCell(t, c.event, c.sit, c.mode).Lines(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s, %s, %q:\ngot  %s\nwant %s", c.event, c.sit, c.mode,
				strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}

func TestDisturbs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event Event
		sit   string
		mode  snap.RefreshMode
		want  bool
	}{
		{Refresh, "running", "endure", false}, {Refresh, "running", "", true}, {Refresh, "not running", "", false},
		{Refresh, "running", "sighup", true}, {Stop, "running", "endure", true}, {Stop, "not running", "", false},
		{Refresh, "vanished, idle", "", false}, {Refresh, "apps run", "endure", false}, {Start, "running", "", false},
	} {
		if got := mustCell(t, c.event, c.sit, c.mode).Disturbs(); got != c.want {
			t.Errorf("%s, %s, %q: %t", c.event, c.sit, c.mode, got)
		}
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	p := &Plan{Services: []Step{{Action: Keep}, {Action: DoRestart}, {Action: DoRestart}, {Action: LeaveDown}}}
	if got := p.Summary(); got != "1 keeps running, 2 restart, 1 stays down" {
		t.Error(got)
	}
	if got := (&Plan{}).Summary(); got != "no services" {
		t.Error(got)
	}
}

func TestMode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		app  snap.App
		want string
	}{
		{snap.App{Daemon: "simple"}, "restart"},
		{snap.App{Daemon: "simple", RefreshMode: "endure", StopMode: "sigterm"}, "endure"},
		{snap.App{Daemon: "simple", StopMode: "sigterm"}, "sigterm"},
		{snap.App{RefreshMode: "ignore-running"}, "endure"},
	} {
		if got := Mode(&c.app); got != c.want {
			t.Errorf("%+v: %s", c.app, got)
		}
	}
}

// What happened is compared with what was planned, PID by PID.
func TestMatches(t *testing.T) {
	t.Parallel()
	same := Service{Running: true, Revision: 2, MainPID: 100, InvocationID: "i"}
	fresh := Service{Running: true, Revision: 3, MainPID: 101, InvocationID: "j"}
	for _, c := range []struct {
		sit       string
		mode      snap.RefreshMode
		after     Service
		signalled bool
		want      string // "" matches
	}{
		{"running", "endure", same, false, ""},
		{"running", "endure", fresh, false, "db: planned keep, happened restart"},
		{"running", "endure", Service{}, false, "db: planned keep, happened stop"},
		{"running", "endure", same, true, "db: planned keep, happened signal"},
		{"running", "", fresh, false, ""},
		{"running", "", same, false, "db: planned restart, happened keep"},
		{"running", "", Service{Running: true, Revision: 2, MainPID: 101, InvocationID: "j"}, false,
			"db: planned to run revision 3, runs 2"},
		{"running", "sigterm", fresh, true, ""},
		{"running", "sigterm", fresh, false, "db: planned signal-start, happened restart"},
		{"running", "sighup", same, true, ""},
		{"running", "sighup", fresh, true, ""},
		{"not running", "", fresh, false, ""},
		{"not running", "", Service{}, false, "db: planned start, happened leave"},
		{"stopped by hand", "", Service{}, false, ""},
		{"stopped by hand", "", fresh, false, "db: planned leave, happened start"},
		{"socket, by hand", "", fresh, false, "db: planned leave, happened start"},
		{"socket, idle", "", Service{}, false, ""},
		{"socket, idle", "", fresh, false, ""},
		{"socket, idle", "", Service{Running: true, Revision: 2, MainPID: 5}, false, "db: planned to run revision 3, runs 2"},
		{"oneshot, done", "", Service{}, false, ""},
		{"oneshot, running", "", Service{}, false, ""},
		{"vanished, running", "endure", Service{}, false, ""},
		{"vanished, running", "endure", same, false, "db: planned stop, happened keep"},
	} {
		p := mustCell(t, Refresh, c.sit, c.mode)
		err := p.Matches([]Outcome{Happened(p.Services[0], c.after, c.signalled)})
		got := ""
		if err != nil {
			var m *MismatchError
			if !errors.As(err, &m) {
				t.Fatalf("%T", err)
			}
			got = strings.Join(m.Differences, "; ")
		}
		if got != c.want {
			t.Errorf("%s, %q: got %q, want %q", c.sit, c.mode, got, c.want)
		}
	}
	p := mustCell(t, Refresh, "running", "")
	if err := p.Matches(nil); err == nil {
		t.Error("a step without outcome matches")
	}
	ok := Happened(p.Services[0], fresh, false)
	if err := p.Matches([]Outcome{ok, ok}); err == nil {
		t.Error("two outcomes match")
	}
	if err := p.Matches([]Outcome{ok, {App: "x", Action: LeaveDown}}); err == nil {
		t.Error("an unplanned outcome matches")
	}
}
