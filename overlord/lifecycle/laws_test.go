// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"endured/snap"
)

// harshness is what is done to one group of processes, as far as they notice.
// One is no harsher than another if it is so in every field.
type harshness struct {
	mainSignalled, workersSignalled bool
	mainEnds, workersEnd            bool
	killed                          bool          // a SIGKILL may follow
	grace                           time.Duration // before it, or before giving up
}

func ofStep(s Step) harshness {
	var h harshness
	switch s.Action {
	case Signal:
		h.mainSignalled, h.workersSignalled = true, s.All
	case SignalStart, DoRestart, DoStop:
		h = harshness{true, !s.Survivors, true, !s.Survivors, s.SendSIGKILL, s.StopTimeout}
	}
	return h
}

func ofGeneration(g GenerationStep) harshness {
	switch g.Action {
	case Signal:
		return harshness{mainSignalled: true, workersSignalled: true}
	case DoStop:
		return harshness{true, true, true, true, true, g.StopTimeout}
	}
	return harshness{}
}

func (h harshness) harsherThan(o harshness) bool {
	return h.mainSignalled && !o.mainSignalled || h.workersSignalled && !o.workersSignalled ||
		h.mainEnds && !o.mainEnds || h.workersEnd && !o.workersEnd || h.killed && !o.killed ||
		h.mainEnds && h.grace < o.grace
}

// law1 says how a refresh is harsher than remove is on the same observation.
func law1(in Input) string {
	refresh, err := Decide(in)
	if err != nil {
		return ""
	}
	started := map[snap.Revision]*snap.Info{in.New.Revision: in.New}
	for rev, info := range in.Started {
		started[rev] = info
	}
	in.Event, in.New, in.Terminate, in.Started = Remove, nil, true, started
	remove, err := Decide(in)
	if err != nil {
		return "remove fails: " + err.Error()
	}
	for _, s := range refresh.Services {
		r := remove.Step(s.App)
		if r == nil {
			r = &Step{}
		}
		if ofStep(s).harsherThan(ofStep(*r)) {
			return fmt.Sprintf("%s: %s is harsher than %s", s.App, Explain(s), Explain(*r))
		}
	}
	gone := map[string]harshness{}
	for _, g := range remove.Generations {
		gone[g.Unit] = ofGeneration(g)
	}
	for _, g := range refresh.Generations {
		if ofGeneration(g).harsherThan(gone[g.Unit]) {
			return ExplainGeneration(g) + " is harsher than remove"
		}
	}
	for _, a := range refresh.Apps {
		if a.Action != Keep {
			return ExplainApp(refresh.Snap, a)
		}
	}
	return ""
}

// A refresh is never harsher than remove.
func TestLaw1(t *testing.T) {
	t.Parallel()
	eachCell(t, func(t *testing.T, e Event, sit situation, m snap.RefreshMode) {
		if !e.RefreshLike() {
			return
		}
		if harsh := law1(inputFor(e, sit, m)); harsh != "" {
			t.Errorf("%s, %s, %q: %s", e, sit.name, m, harsh)
		}
	})
}

// Only refresh-like events honour refresh-mode, be it the snap's or the operator's.
func TestLaw2(t *testing.T) {
	t.Parallel()
	eachCell(t, func(t *testing.T, e Event, sit situation, m snap.RefreshMode) {
		if e.RefreshLike() {
			return
		}
		plain := inputFor(e, sit, "")
		plain.Override = nil
		for _, word := range []snap.RefreshMode{"", "endure", "restart", "sigusr2-all"} {
			in := inputFor(e, sit, m)
			in.Override = Override{"db": word}
			if a, b := outcomeOf(t, plain), outcomeOf(t, in); a != b {
				t.Errorf("%s, %s, %q, operator %q:\nwant %s\ngot  %s", e, sit.name, m, word, a, b)
			}
		}
	})
}

// What disable and remove leave is nothing; shutdown likewise.
func TestSweep(t *testing.T) {
	t.Parallel()
	eachCell(t, func(t *testing.T, e Event, sit situation, m snap.RefreshMode) {
		if e != Disable && e != Remove && e != Shutdown {
			return
		}
		in := inputFor(e, sit, m)
		in.Terminate = true
		p, err := Decide(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Services {
			if s.Survivors || (s.Action != DoStop && s.Action != LeaveDown) || !s.To.Unset() {
				t.Errorf("%s, %s: %s", e, sit.name, Explain(s))
			}
			if in.Observed.Services[s.App].Running && s.Action != DoStop {
				t.Errorf("%s, %s leaves it: %s", e, sit.name, Explain(s))
			}
		}
		if n := len(in.Observed.Services["db"].Generations); n != len(p.Generations) {
			t.Errorf("%s, %s: %d scopes, %d planned", e, sit.name, n, len(p.Generations))
		}
		for _, g := range p.Generations {
			if g.Action != DoStop {
				t.Errorf("%s, %s: %s", e, sit.name, ExplainGeneration(g))
			}
		}
		if len(p.Apps) != len(in.Observed.Apps) {
			t.Errorf("%s, %s: apps %v", e, sit.name, p.Apps)
		}
	})
}

// Endure is kept whatever else is so, as long as the service is still one.
func TestEndure(t *testing.T) {
	t.Parallel()
	eachCell(t, func(t *testing.T, e Event, sit situation, m snap.RefreshMode) {
		in := inputFor(e, sit, m)
		if !e.RefreshLike() || m != "endure" || in.Override["db"] != "" && in.Override["db"] != "endure" {
			return
		}
		if !in.Observed.Services["db"].Running || service(in.New, "db") == nil || sit.name == "scope of rev 1" {
			return // in that one, it is the scope's revision that says so
		}
		p, err := Decide(in)
		if sit.name == "running from rev 3" && e != Revert {
			if err == nil {
				t.Errorf("%s onto a busy revision is not refused", e)
			}
			return
		}
		if err != nil {
			t.Fatalf("%s, %s: %v", e, sit.name, err)
		}
		if s := p.Services[0]; s.Action != Keep || s.To != s.From || s.Undo != "" || s.StopTimeout != 0 {
			t.Errorf("%s, %s: %s", e, sit.name, Explain(s))
		}
	})
}

// Deciding reads only: the same input twice gives the same plan and is unchanged.
func TestPure(t *testing.T) {
	t.Parallel()
	eachCell(t, func(t *testing.T, e Event, sit situation, m snap.RefreshMode) {
		in := inputFor(e, sit, m)
		first := outcomeOf(t, in)
		if second := outcomeOf(t, in); first != second {
			t.Errorf("%s, %s, %q: two answers:\n%s\n%s", e, sit.name, m, first, second)
		}
		if !reflect.DeepEqual(in, inputFor(e, sit, m)) {
			t.Errorf("%s, %s, %q: the input was changed", e, sit.name, m)
		}
	})
}

func eachCell(t *testing.T, f func(*testing.T, Event, situation, snap.RefreshMode)) {
	t.Helper()
	for _, e := range allEvents {
		for _, sit := range situations {
			for _, m := range allModes {
				f(t, e, sit, m)
			}
		}
	}
}

// outcomeOf is the plan as JSON, or the error.
func outcomeOf(t *testing.T, in Input) string {
	t.Helper()
	p, err := Decide(in)
	if err != nil {
		return err.Error()
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
