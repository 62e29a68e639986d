// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"endured/snap"
)

// page is what the template of docs/refresh-mode.md is filled from.
type page struct {
	Supported, Refused string
	Modes              []docMode
	Events, StopModes  []docRow
	Situations         []docSituation
}

type docMode struct{ Word, Main, Workers, After string }

type docRow struct {
	Word  string
	Cells []string
}

type docSituation struct{ Name, What string }

// docEvents are the columns; the first stands for all refresh-like events.
var docEvents = []Event{Refresh, Stop, Restart, Disable, Remove, Shutdown}

func TestDocs(t *testing.T) {
	t.Parallel()
	p := page{}
	for _, m := range allModes {
		in := docInput(Refresh, m, "")
		plan := docPlan(t, in)
		s := plan.Services[0]
		p.Modes = append(p.Modes, docMode{modeWord(string(m)), mainWords(s), workerWords(s), afterWords(s)})
		p.Events = append(p.Events, docCells(t, string(m), m, ""))
	}
	for _, m := range []snap.StopMode{"sigterm", "sigterm-all", "sigint", "sigint-all", "sighup", "sighup-all",
		"sigusr1", "sigusr1-all", "sigusr2", "sigusr2-all"} {
		p.StopModes = append(p.StopModes, docCells(t, string(m), "", m))
	}
	p.Situations = docSituations(t)

	text, err := template.ParseFiles(filepath.Join("testdata", "refresh-mode.md.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := text.Execute(&b, p); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range strings.Split(b.String(), "\n") {
		lines = append(lines, strings.TrimRight(l, " "))
	}
	compareGolden(t, filepath.Join("..", "..", "docs", "refresh-mode.md"), strings.Join(lines, "\n"))
}

// docInput is a running service with three workers.
func docInput(e Event, m snap.RefreshMode, stop snap.StopMode) Input {
	in := inputFor(e, situations[0], m)
	in.Old.Apps["db"].StopMode = stop
	db := in.Observed.Services["db"]
	db.Workers = 3
	in.Observed.Services["db"] = db
	return in
}

func docPlan(t *testing.T, in Input) *Plan {
	t.Helper()
	p, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func docCells(t *testing.T, word string, m snap.RefreshMode, stop snap.StopMode) docRow {
	t.Helper()
	r := docRow{Word: modeWord(word)}
	for _, e := range docEvents {
		s := docPlan(t, docInput(e, m, stop)).Services[0]
		r.Cells = append(r.Cells, cellWords(s))
		if e != Refresh {
			continue
		}
		// One column stands for three events, so they had better agree.
		for _, other := range []Event{LocalInstall, Revert} {
			if o := docPlan(t, docInput(other, m, stop)).Services[0]; o != s {
				t.Errorf("%s of %s differs from refresh: %+v, %+v", other, word, o, s)
			}
		}
	}
	return r
}

func modeWord(w string) string {
	if w == "" {
		return "(unset)"
	}
	return "`" + w + "`"
}

func mainWords(s Step) string {
	switch s.Action {
	case Keep:
		return "left alone"
	case Signal:
		return s.Signal + " after the switch"
	case SignalStart:
		return s.Signal + ", ends"
	}
	return "stopped"
}

func workerWords(s Step) string {
	switch {
	case s.Action == Keep, s.Survivors:
		return "left alone"
	case s.Action == Signal:
		return s.Signal + " after the switch"
	case s.Action == SignalStart:
		return s.Signal + ", end"
	}
	return "stopped"
}

func afterWords(s Step) string {
	switch {
	case s.Action == Keep:
		return "old revision"
	case s.Action == Signal:
		return "what the process makes of it"
	case s.Survivors:
		return "new revision; workers on the old"
	}
	return "new revision"
}

// cellWords puts a step into a table's cell.
func cellWords(s Step) string {
	signal := ""
	if s.Signal != "" {
		signal = s.Signal + " to main"
		if s.All {
			signal = s.Signal + " to all"
		} else if s.Action == DoStop && !s.Survivors {
			signal += ", SIGTERM to workers"
		}
	}
	with := func(what string) string {
		if signal != "" {
			what += " (" + signal + ")"
		}
		return what
	}
	switch {
	case s.Action == Keep:
		return "all stay"
	case s.Action == Signal:
		return with("all stay")
	case s.Action == DoStop && s.Survivors:
		return with("main ends, workers stay")
	case s.Action == DoStop:
		return with("all end")
	case s.Survivors:
		return with("main restarts, workers stay")
	}
	return with("all end, restart")
}

// docSituations are the cases of the table that an author or operator may meet.
func docSituations(t *testing.T) []docSituation {
	t.Helper()
	var out []docSituation
	for _, c := range []struct {
		name, sit string
		mode      snap.RefreshMode
	}{
		{"enabled, not running", "not running", ""},
		{"stopped by `snap stop`", "stopped by hand", ""},
		{"stopped by `snap stop`, and not in the revisions between", "returns, by hand", ""},
		{"disabled, not running", "disabled", ""},
		{"disabled, but running (restart)", "disabled, running", "restart"},
		{"started by a socket, idle", "socket, idle", ""},
		{"started by a timer, idle", "timer, idle", ""},
		{"started by D-Bus, idle", "dbus, idle", ""},
		{"started by a socket, running (restart)", "socket, running", "restart"},
		{"a oneshot that is done", "oneshot, done", ""},
		{"a oneshot that runs (restart)", "oneshot, running", "restart"},
		{"a oneshot that runs (endure)", "oneshot, running", "endure"},
		{"enduring since revision 1", "running from rev 1", "endure"},
		{"the new revision lacks it (endure)", "vanished, running", "endure"},
		{"the new revision makes it an app (endure)", "becomes an app", "endure"},
		{"new in the new revision", "new", ""},
		{"new, with `install-mode: disable`", "new, install-mode", ""},
		{"new, with a socket", "new, socket", ""},
		{"was an app, becomes a service", "was an app", ""},
		{"the operator says endure (restart)", "operator: endure", "restart"},
		{"the operator says restart (endure)", "operator: restart", "endure"},
		{"the operator's ceiling is 10 s (restart)", "ceiling 10s", "restart"},
	} {
		p := mustCell(t, Refresh, c.sit, c.mode)
		what := strings.TrimPrefix(Explain(p.Services[0]), "web.db ")
		what = strings.NewReplacer("pid 100, ", "", " (pid 100)", "").Replace(what)
		out = append(out, docSituation{c.name, what})
	}
	return out
}

// list is "a, b and c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
