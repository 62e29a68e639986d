// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"endured/snap"
)

// source turns fuzzed bytes into choices; it gives zeros when they run out.
type source struct{ data []byte }

func (s *source) n(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b) % n
}

func (s *source) chance(percent int) bool { return s.n(100) < percent }

func pick[T any](s *source, of ...T) T { return of[s.n(len(of))] }

// info makes up a revision; it may be nil.
func (s *source) info(rev snap.Revision) *snap.Info {
	if s.chance(10) {
		return nil
	}
	i := &snap.Info{Name: "web", Revision: rev, Apps: map[string]*snap.App{}}
	for _, name := range []string{"a", "b", "c"} {
		if s.chance(15) {
			continue
		}
		a := &snap.App{Snap: i, Name: name, SendSIGKILL: !s.chance(20)}
		a.Daemon = pick(s, "simple", "simple", "oneshot", "notify", "")
		a.RefreshMode = pick(s, append([]snap.RefreshMode{"ignore-running", "bogus", "-all"}, allModes...)...)
		a.StopMode = pick(s, "", "", snap.StopMode("sigterm"), "sigint-all", "sighup", "odd")
		a.StopTimeout = pick(s, 0, time.Second, time.Hour)
		a.InstallMode = pick(s, "", "", "disable")
		a.Timer = pick(s, "", "", "10:00")
		if s.chance(20) {
			a.Sockets = []*snap.Socket{{App: a, Name: "s"}}
		}
		a.After = pick(s, nil, nil, []string{"b"}, []string{"nobody"})
		i.Apps[name] = a
	}
	return i
}

// input makes up anything that Decide may be asked.
func (s *source) input() Input {
	in := Input{
		Event: pick(s, append([]Event{"bogus"}, allEvents...)...),
		Old:   s.info(2), New: s.info(3),
		Started:        map[snap.Revision]*snap.Info{1: s.info(1), 4: nil},
		StopTimeoutMax: pick(s, 0, 0, 10*time.Second),
		Terminate:      s.chance(50),
	}
	in.Observed.Services = map[string]Service{}
	for _, name := range []string{"a", "b", "c", "stray"} {
		if s.chance(25) {
			continue
		}
		o := Service{Running: s.chance(60), Enabled: s.chance(70), HandStopped: s.chance(20)}
		if o.Running {
			o.Revision = pick(s, snap.Revision(2), 2, 1, 3, 4, 0)
			o.MainPID, o.Workers, o.Delegated = s.n(3)*100, s.n(3), s.chance(20)
		}
		if s.chance(25) {
			rev := pick(s, snap.Revision(1), 2, 3, 4)
			o.Generations = []Generation{{Unit: "snap.web." + name + "-r.scope", Revision: rev, PIDs: []int{7}}}
		}
		in.Observed.Services[name] = o
	}
	if s.chance(20) {
		in.Observed.Apps = []Process{{PID: 9, App: "c", Revision: 2}, {PID: 8, App: "c", Revision: 1}}
	}
	in.Override = Override{pick(s, "a", "b"): pick(s, "", "", "", snap.RefreshMode("endure"), "sigterm", "bogus")}
	in.Only = pick(s, nil, nil, nil, []string{"a"}, []string{"b", "a"}, []string{"nobody"})
	return in
}

// checkInput holds the laws against one input.
func checkInput(t *testing.T, in Input) {
	t.Helper()
	p, err := Decide(in)
	if err != nil {
		if p != nil || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Fatalf("error %q with plan %v", err, p)
		}
		return
	}
	if again, want := outcomeOf(t, in), outcomeOf(t, in); again != want {
		t.Fatalf("two answers:\n%s\n%s", want, again)
	}
	seen := map[string]bool{}
	var happened []Outcome
	for _, s := range p.Services {
		if seen[s.App] || s.Action == "" || s.Why == "" || s.Decider == "" {
			t.Fatalf("incomplete or double step: %+v", s)
		}
		seen[s.App] = true
		checkStep(t, in, s)
		o := Outcome{App: s.App, Action: s.Action, OldPID: s.MainPID, FromRev: s.From, ToRev: s.To}
		if s.Action == Keep || s.Action == Signal {
			o.NewPID = s.MainPID
		}
		happened = append(happened, o)
	}
	if err := p.Matches(happened); err != nil {
		t.Fatalf("a plan does not match itself: %v", err)
	}
	if p.Summary() == "" || len(p.Lines()) < len(p.Services) {
		t.Fatal("a plan cannot explain itself")
	}
	if in.Event.RefreshLike() {
		if harsh := law1(in); harsh != "" {
			t.Fatal(harsh)
		}
	}
}

// checkStep holds what is true of every step.
func checkStep(t *testing.T, in Input, s Step) {
	t.Helper()
	obs := in.Observed.Services[s.App]
	ends := s.Action == DoRestart || s.Action == DoStop || s.Action == SignalStart
	if ends != (s.StopTimeout > 0) {
		t.Fatalf("the bound of %+v", s)
	}
	if (ends || s.Action == Keep || s.Action == Signal) != obs.Running {
		t.Fatalf("action against the observation: %+v, %+v", s, obs)
	}
	if in.StopTimeoutMax > 0 && s.StopTimeout > in.StopTimeoutMax {
		t.Fatalf("beyond the ceiling: %+v", s)
	}
	if !in.Event.RefreshLike() && (s.Action == Signal || s.Action == SignalStart || s.Undo != "") {
		t.Fatalf("%s honours refresh-mode: %+v", in.Event, s)
	}
	if s.Delegated && !s.Survivors || s.Survivors && (s.All || s.Workers == 0) {
		t.Fatalf("survivors of %+v", s)
	}
	if s.Enable && service(in.New, s.App) == nil && service(in.Old, s.App) == nil {
		t.Fatalf("enables what is not there: %+v", s)
	}
}

func FuzzDecide(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		seed := make([]byte, 120)
		for i := range seed {
			seed[i] = byte(r.Uint32())
		}
		f.Add(seed)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		checkInput(t, (&source{data}).input())
	})
}

// TestMany is the fuzz target over many made-up inputs, and proves that enough
// of them are decided rather than refused.
func TestMany(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	decided, actions := 0, map[Action]int{}
	const rounds = 20000
	for range rounds {
		data := make([]byte, 160)
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		in := (&source{data}).input()
		checkInput(t, in)
		if p, err := Decide(in); err == nil {
			decided++
			for _, s := range p.Services {
				actions[s.Action]++
			}
		}
	}
	if decided < rounds/4 {
		t.Errorf("only %d of %d inputs were decided", decided, rounds)
	}
	for _, a := range []Action{Keep, DoRestart, DoStart, DoStop, LeaveDown, Signal, SignalStart} {
		if actions[a] < 20 {
			t.Errorf("action %s came up %d times", a, actions[a])
		}
	}
}
