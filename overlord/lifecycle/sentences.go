// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"endured/snap"
)

// Sentence says what one event does to one service that runs, or when a hook is
// run.
type Sentence struct {
	App    string `json:"app,omitempty"`
	Hook   string `json:"hook,omitempty"`
	Event  Event  `json:"event,omitempty"` // or "crash", which is not decided here
	Action Action `json:"action,omitempty"`
	Text   string `json:"text"` // a whole sentence
}

// kept is no event: it says what a refresh takes from those that it leaves running.
const kept Event = "seal"

// crash is the event that nobody asks for: systemd alone deals with it.
const crash Event = "crash"

// explained are the events that a service's author and operator ask about;
// Refresh stands for every refresh-like one.
func explained() []Event { return []Event{Refresh, Stop, Restart, Disable, Remove, Shutdown} }

// Sentences says, for each service of a revision and each event, what would
// happen if it ran, with other processes beside its main one. It is what Decide
// decides: o and ceiling are the operator's word, if there is one. limits say,
// by app, why its old data could be sealed only partly, where that is known.
func Sentences(info *snap.Info, o Override, ceiling time.Duration, limits map[string][]string) ([]Sentence, error) {
	old := *info
	if old.Revision.Unset() {
		old.Revision = 1
	}
	next := *info
	next.Revision = old.Revision + 1
	if next.Revision.Unset() {
		next.Revision = 1
	}
	obs := Observed{Services: map[string]Service{}}
	for _, a := range info.Services() {
		obs.Services[a.Name] = Service{Running: true, Revision: old.Revision, MainPID: 1, Enabled: true, Workers: 1}
	}
	by := map[string][]Sentence{}
	for _, e := range explained() {
		in := Input{Event: e, Old: &old, Observed: obs, Override: o, StopTimeoutMax: ceiling}
		if e == Refresh {
			in.New = &next
		}
		p, err := Decide(in)
		if err != nil {
			return nil, err
		}
		for _, s := range p.Services {
			by[s.App] = append(by[s.App], Sentence{App: s.App, Event: e, Action: s.Action, Text: sentence(e, s)})
			if e == Refresh && (s.Action == Keep || s.Action == Signal || s.Survivors) {
				by[s.App] = append(by[s.App], Sentence{App: s.App, Event: kept, Text: sealSentence(info, limits[s.App])})
			}
		}
	}
	var out []Sentence
	for _, a := range info.Services() {
		out = append(out, by[a.Name]...)
		out = append(out, Sentence{App: a.Name, Event: crash, Text: crashSentence(a)})
	}
	return out, nil
}

// subject begins a sentence.
func subject(e Event) string {
	switch e {
	case Refresh:
		return "A refresh"
	case Disable, Remove, Stop, Restart:
		return fmt.Sprintf("'snap %s'", e)
	}
	return "A shutdown"
}

func sentence(e Event, s Step) string {
	var b strings.Builder
	b.WriteString(subject(e))
	if e == Refresh {
		refreshClause(&b, s)
	} else {
		stopClause(&b, e, s)
	}
	if e == Refresh || s.Decider != ByEvent {
		b.WriteString(": " + s.Why)
	}
	return b.String() + "."
}

func refreshClause(b *strings.Builder, s Step) {
	switch s.Action {
	case Keep:
		b.WriteString(" leaves it alone, on the revision that it was started from")
	case Signal:
		fmt.Fprintf(b, " sends %s to %s once the new revision is in place; who does not end goes on, and if the main process ends, the new revision is started", s.Signal, whom(s))
	default:
		stopClause(b, Refresh, s)
		b.WriteString(", and starts the new revision")
	}
}

// stopClause says who ends, by what and within which time.
func stopClause(b *strings.Builder, e Event, s Step) {
	switch {
	case s.Signal != "" && s.All:
		fmt.Fprintf(b, " sends %s to %s, so that all end", s.Signal, whom(s))
	case s.Signal != "" && s.Survivors:
		fmt.Fprintf(b, " sends %s to %s, and leaves the others running", s.Signal, whom(s))
	case s.Signal != "":
		fmt.Fprintf(b, " sends %s to %s and SIGTERM to the others, so that all end", s.Signal, whom(s))
	case s.Survivors:
		b.WriteString(" ends its main process, and leaves the others running")
	default:
		b.WriteString(" ends all its processes")
	}
	if s.StopTimeout > 0 {
		fmt.Fprintf(b, " (they have %s", s.StopTimeout)
		if s.Clamped {
			b.WriteString(", the operator's limit")
		}
		switch {
		case s.SendSIGKILL:
			b.WriteString(", then SIGKILL)")
		case e == Shutdown:
			b.WriteString("; they are not killed before the system is)")
		default:
			b.WriteString("; they are never killed, after that it is given up)")
		}
	}
	if s.Action == DoRestart && s.From == s.To {
		b.WriteString(", and starts it again")
	}
}

func whom(s Step) string {
	if s.All {
		return "each of its processes"
	}
	return "its main process"
}

// sealSentence says what becomes of the right to write to the old data.
func sealSentence(info *snap.Info, limits []string) string {
	if info.Confinement == "classic" {
		return "What it leaves can go on writing to the old data, which nobody reads afterwards: " + ClassicSeal + "."
	}
	text := "What it leaves can read the old data, and not write to it any more"
	if len(limits) > 0 {
		text += "; that is partly so, because " + strings.Join(limits, ", and because ")
	}
	return text + "."
}

// crashSentence says what systemd does when the main process ends by itself.
func crashSentence(a *snap.App) string {
	if a.Daemon == "oneshot" {
		return "When its main process has ended, its work is done: it is not started again by itself."
	}
	again := "it is started again, from the current revision, if it failed"
	switch a.RestartCondition {
	case "", "on-failure":
	case "never":
		again = "it is not started again"
	case "always":
		again = "it is started again, from the current revision"
	default:
		again = fmt.Sprintf("it is started again, from the current revision, as restart-condition says (%s)", a.RestartCondition)
	}
	return "When its main process ends by itself, so do the others of its unit, and " + again + "."
}
