// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"endured/snap"
)

var update = flag.Bool("update", false, "rewrite testdata/table.golden and docs/refresh-mode.md")

// The table's axes. The snap is "web" with the service "db"; revision 2 is
// current, 3 is next, 1 is older.
var (
	allEvents = []Event{Refresh, LocalInstall, Revert, Install, Enable, Start, Stop, Restart, Disable, Remove, Shutdown}
	allModes  = []snap.RefreshMode{"", "restart", "endure",
		"sigterm", "sigterm-all", "sigint", "sigint-all", "sighup", "sighup-all",
		"sigusr1", "sigusr1-all", "sigusr2", "sigusr2-all"}
)

// situation is one observed class. Its function bends the plain case: db runs
// as pid 100 from revision 2, which declares the mode, with nothing else there.
type situation struct {
	name string
	bend func(c *situationCase)
}

type situationCase struct {
	in             Input
	mode           snap.RefreshMode
	older, old, nu *snap.App // db in revisions 1, 2 and 3
	db             Service
	known          bool // db has a unit
}

// drop takes db out of a revision; app makes it a plain app there.
func (c *situationCase) drop(rev *snap.Info) { delete(rev.Apps, "db") }

var situations = []situation{
	{"running", func(c *situationCase) {}},
	{"not running", func(c *situationCase) { c.db = Service{Enabled: true} }},
	{"stopped by hand", func(c *situationCase) { c.db = Service{Enabled: true, HandStopped: true} }},
	{"returns, by hand", func(c *situationCase) { c.drop(c.in.Old); c.db = Service{Enabled: true, HandStopped: true} }},
	{"disabled", func(c *situationCase) { c.db = Service{} }},
	{"disabled, running", func(c *situationCase) { c.db.Enabled = false }},
	{"running from rev 1", func(c *situationCase) { c.older.RefreshMode, c.old.RefreshMode = c.mode, ""; c.db.Revision = 1 }},
	{"from rev 1, unknown", func(c *situationCase) { delete(c.in.Started, 1); c.db.Revision = 1 }},
	{"running from rev 3", func(c *situationCase) { c.nu.RefreshMode, c.old.RefreshMode = c.mode, ""; c.db.Revision = 3 }},
	{"3 workers", func(c *situationCase) { c.db.Workers = 3 }},
	{"3 workers, delegated", func(c *situationCase) { c.db.Workers, c.db.Delegated = 3, true }},
	{"3 workers, no main", func(c *situationCase) { c.db.Workers, c.db.MainPID = 3, 0 }},
	{"socket, idle", func(c *situationCase) { c.socket(); c.db = Service{Enabled: true} }},
	{"socket, running", func(c *situationCase) { c.socket() }},
	{"socket, by hand", func(c *situationCase) { c.socket(); c.db = Service{Enabled: true, HandStopped: true} }},
	{"timer, idle", func(c *situationCase) { c.old.Timer, c.nu.Timer = "10:00", "10:00"; c.db = Service{Enabled: true} }},
	{"dbus, idle", func(c *situationCase) {
		c.old.ActivatesOn, c.nu.ActivatesOn = []string{"b"}, []string{"b"}
		c.db = Service{Enabled: true}
	}},
	{"gains a socket", func(c *situationCase) { c.nu.Sockets = []*snap.Socket{{App: c.nu, Name: "s"}} }},
	{"loses its socket, idle", func(c *situationCase) {
		c.old.Sockets = []*snap.Socket{{App: c.old, Name: "s"}}
		c.db = Service{Enabled: true}
	}},
	{"oneshot, done", func(c *situationCase) { c.oneshot(); c.db = Service{Enabled: true} }},
	{"oneshot, running", func(c *situationCase) { c.oneshot() }},
	{"oneshot, active", func(c *situationCase) { c.oneshot(); c.db.MainPID = 0 }},
	{"vanished, running", func(c *situationCase) { c.drop(c.in.New) }},
	{"vanished, idle", func(c *situationCase) { c.drop(c.in.New); c.db = Service{Enabled: true} }},
	{"vanished, scope", func(c *situationCase) { c.drop(c.in.New); c.generation() }},
	{"becomes an app", func(c *situationCase) { c.nu.Daemon, c.nu.RefreshMode = "", "" }},
	{"new", func(c *situationCase) { c.drop(c.in.Old); c.known = false; c.nu.RefreshMode = c.mode }},
	{"new, install-mode", func(c *situationCase) { c.drop(c.in.Old); c.known = false; c.nu.InstallMode = "disable" }},
	{"new, socket", func(c *situationCase) { c.drop(c.in.Old); c.known = false; c.socket() }},
	{"was an app", func(c *situationCase) {
		c.old.Daemon, c.old.RefreshMode, c.known = "", "", false
		c.in.Observed.Apps = []Process{{PID: 300, App: "db", Revision: 2}}
	}},
	{"scope of rev 1", func(c *situationCase) { c.older.RefreshMode, c.old.RefreshMode = c.mode, ""; c.generation() }},
	{"apps run", func(c *situationCase) { c.in.Observed.Apps = runningApps() }},
	{"apps run, terminate", func(c *situationCase) { c.in.Observed.Apps, c.in.Terminate = runningApps(), true }},
	{"operator: endure", func(c *situationCase) { c.in.Override = Override{"db": "endure"}; c.generation() }},
	{"operator: restart", func(c *situationCase) { c.in.Override = Override{"db": "restart"}; c.generation() }},
	{"operator: sigint-all", func(c *situationCase) { c.in.Override = Override{"db": "sigint-all"}; c.generation() }},
	{"ceiling 10s", func(c *situationCase) { c.old.StopTimeout, c.in.StopTimeoutMax = time.Hour, 10*time.Second }},
	{"send-sigkill: false", func(c *situationCase) { c.old.SendSIGKILL = false }},
	{"stop-mode: sigint", func(c *situationCase) {
		c.older.StopMode, c.old.StopMode, c.db.Workers = "sigint", "sigint", 3
		c.generation()
	}},
	{"stop-mode: sigint-all", func(c *situationCase) { c.old.StopMode, c.db.Workers = "sigint-all", 3 }},
	{"stop-mode: sighup", func(c *situationCase) { c.old.StopMode, c.db.Workers = "sighup", 3 }},
	{"named", func(c *situationCase) { c.in.Only = []string{"db"} }},
	{"named, not running", func(c *situationCase) { c.in.Only = []string{"db"}; c.db = Service{Enabled: true} }},
}

func runningApps() []Process {
	return []Process{{PID: 301, App: "edit", Revision: 1}, {PID: 300, App: "edit", Revision: 2}}
}

func (c *situationCase) socket() {
	c.old.Sockets = []*snap.Socket{{App: c.old, Name: "s"}}
	c.nu.Sockets = []*snap.Socket{{App: c.nu, Name: "s"}}
}

func (c *situationCase) oneshot() { c.old.Daemon, c.nu.Daemon = "oneshot", "oneshot" }

func (c *situationCase) generation() {
	c.db.Generations = []Generation{{Unit: "snap.web.db-r1-7.scope", Revision: 1, PIDs: []int{200, 201}}}
}

// testInfo makes a revision of "web" with the service db and the app edit.
func testInfo(rev snap.Revision) (*snap.Info, *snap.App) {
	i := &snap.Info{Name: "web", Revision: rev}
	db := &snap.App{Snap: i, Name: "db", Daemon: "simple", SendSIGKILL: true}
	i.Apps = map[string]*snap.App{"db": db, "edit": {Snap: i, Name: "edit", SendSIGKILL: true}}
	return i, db
}

// inputFor builds the input of one cell of the table.
func inputFor(e Event, sit situation, mode snap.RefreshMode) Input {
	r1, older := testInfo(1)
	r2, old := testInfo(2)
	r3, nu := testInfo(3)
	old.RefreshMode = mode
	c := &situationCase{
		mode: mode, older: older, old: old, nu: nu, known: true,
		in: Input{Event: e, Old: r2, New: r3, Started: map[snap.Revision]*snap.Info{1: r1}},
		db: Service{Running: true, Revision: 2, MainPID: 100, InvocationID: "i", Enabled: true},
	}
	sit.bend(c)
	c.in.Observed.Services = map[string]Service{}
	if c.known {
		c.in.Observed.Services["db"] = c.db
	}
	return c.in
}

// row renders what Decide says as the table's columns.
func row(in Input) string {
	p, err := Decide(in)
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, s := range p.Services {
		parts = append(parts, stepColumns(s))
	}
	for _, g := range p.Generations {
		how := string(g.Action)
		if g.Signal != "" {
			how += " " + g.Signal
		}
		parts = append(parts, fmt.Sprintf("scope r%s: %s, by %s: %s", g.Revision, how, g.Decider, g.Why))
	}
	for _, a := range p.Apps {
		parts = append(parts, fmt.Sprintf("%s %d: %s", a.App, a.PID, a.Action))
	}
	return strings.Join(parts, " | ")
}

func stepColumns(s Step) string {
	signal := s.Signal
	if s.All {
		signal += " to all"
	}
	if s.AfterRelease {
		signal += " after"
	}
	bound := ""
	if s.StopTimeout > 0 {
		bound = s.StopTimeout.String()
		if s.Clamped {
			bound += " clamped"
		}
		if s.SendSIGKILL {
			bound += " kill"
		} else {
			bound += " give up"
		}
	}
	var also []string
	for _, w := range []struct {
		on   bool
		word string
	}{
		{s.Survivors && !s.Delegated, "workers to scope"},
		{s.Delegated, "workers stay in unit"},
		{s.Enable, "enable"},
		{s.Activators != "", "activators " + string(s.Activators)},
		{s.Undo != "", "undo " + s.Undo},
	} {
		if w.on {
			also = append(also, w.word)
		}
	}
	revs := fmt.Sprintf("%s>%s", revWord(s.From), revWord(s.To))
	return fmt.Sprintf("%-12s %s  %-15s %-15s %-8s %s {%s}", s.Action, revs, signal, bound, s.Decider, s.Why, strings.Join(also, ", "))
}

func revWord(r snap.Revision) string {
	if r.Unset() {
		return "-"
	}
	return r.String()
}

// table renders every combination. Modes that give the same are on one line.
func table() string {
	var b strings.Builder
	for _, e := range allEvents {
		fmt.Fprintf(&b, "\n== %s ==\n", e)
		asRefresh := e == LocalInstall || e == Revert
		if asRefresh {
			fmt.Fprintln(&b, "(as refresh but for these)")
		}
		for _, sit := range situations {
			if asRefresh && sameAsRefresh(e, sit) {
				continue
			}
			var order []string
			modes := map[string][]string{}
			for _, m := range allModes {
				r := row(inputFor(e, sit, m))
				if modes[r] == nil {
					order = append(order, r)
				}
				word := string(m)
				if m == "" {
					word = "unset"
				}
				modes[r] = append(modes[r], word)
			}
			for _, r := range order {
				words := strings.Join(modes[r], " ")
				if len(modes[r]) == len(allModes) {
					words = "every mode"
				}
				fmt.Fprintf(&b, "%-22s %-11s %s\n", sit.name, words, strings.TrimRight(r, " "))
			}
		}
	}
	return b.String()
}

func sameAsRefresh(e Event, sit situation) bool {
	for _, m := range allModes {
		if row(inputFor(e, sit, m)) != row(inputFor(Refresh, sit, m)) {
			return false
		}
	}
	return true
}

const tableHead = `Every mode under every event in every situation: what happens to the service db
of a snap. Revision 2 is current and declares the mode, 3 is next, 1 is older.
Columns: situation, modes, action, revision before>after, signal, bound of the
stop, who decided, why {what else}. Written by go test ./overlord/lifecycle -update
`

func TestTable(t *testing.T) {
	t.Parallel()
	compareGolden(t, filepath.Join("testdata", "table.golden"), tableHead+table())
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			line := func(s []string) string {
				if i < len(s) {
					return s[i]
				}
				return "(end)"
			}
			t.Fatalf("%s line %d:\nwant %s\ngot  %s\n(go test ./overlord/lifecycle -update rewrites it)", path, i+1, line(w), line(g))
		}
	}
}
