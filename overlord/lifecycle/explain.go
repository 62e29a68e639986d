// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"strings"
)

// Disturbs tells whether the plan signals or ends any process.
func (p *Plan) Disturbs() bool {
	for _, s := range p.Services {
		switch s.Action {
		case DoRestart, DoStop, Signal, SignalStart:
			return true
		}
	}
	for _, g := range p.Generations {
		if g.Action != Keep {
			return true
		}
	}
	for _, a := range p.Apps {
		if a.Action != Keep {
			return true
		}
	}
	return false
}

// Step returns the step of a service, nil if the plan has none.
func (p *Plan) Step(app string) *Step {
	for i := range p.Services {
		if p.Services[i].App == app {
			return &p.Services[i]
		}
	}
	return nil
}

// Lines explains the whole plan, one sentence a line: services, then scopes,
// then apps.
func (p *Plan) Lines() []string {
	var lines []string
	for _, s := range p.Services {
		lines = append(lines, Explain(s))
	}
	for _, g := range p.Generations {
		lines = append(lines, ExplainGeneration(g))
	}
	for _, a := range p.Apps {
		lines = append(lines, ExplainApp(p.Snap, a))
	}
	return lines
}

// Summary counts the services by what happens to them: "1 keeps running, 2 restart".
func (p *Plan) Summary() string {
	counts := map[Action]int{}
	for _, s := range p.Services {
		counts[s.Action]++
	}
	var parts []string
	for _, w := range []struct {
		action    Action
		one, many string
	}{
		{Keep, "keeps running", "keep running"},
		{Signal, "is signalled", "are signalled"},
		{SignalStart, "is signalled and started anew", "are signalled and started anew"},
		{DoRestart, "restarts", "restart"},
		{DoStart, "starts", "start"},
		{DoStop, "stops", "stop"},
		{LeaveDown, "stays down", "stay down"},
	} {
		switch n := counts[w.action]; {
		case n == 1:
			parts = append(parts, "1 "+w.one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, w.many))
		}
	}
	if len(parts) == 0 {
		return "no services"
	}
	return strings.Join(parts, ", ")
}

// Explain says in one plain sentence, without a full stop, what happens to a service.
func Explain(s Step) string {
	var what string
	switch s.Action {
	case Keep:
		what = fmt.Sprintf("keeps running on revision %s", s.From)
	case DoRestart:
		what = fmt.Sprintf("restarts from revision %s to %s", s.From, s.To)
		if s.From == s.To {
			what = fmt.Sprintf("restarts on revision %s", s.To)
		}
	case DoStart:
		what = fmt.Sprintf("starts on revision %s", s.To)
	case DoStop:
		what = fmt.Sprintf("stops on revision %s", s.From)
	case LeaveDown:
		what = "is not started"
	case Signal:
		what = fmt.Sprintf("gets %s%s after the switch, on revision %s", s.Signal, toAll(s.All), s.From)
	case SignalStart:
		what = fmt.Sprintf("gets %s%s on revision %s, and revision %s starts after it", s.Signal, toAll(s.All), s.From, s.To)
	}
	return s.label() + " " + what + details(s) + ": " + s.Why
}

func toAll(all bool) string {
	if all {
		return " in every process"
	}
	return ""
}

// details lists, in parentheses, what an operator would ask about a step.
func details(s Step) string {
	var parts []string
	if s.MainPID > 0 {
		parts = append(parts, fmt.Sprintf("pid %d", s.MainPID))
	}
	if s.Workers > 0 {
		workers := count(s.Workers, "worker")
		if s.Survivors {
			workers += " left running"
		}
		parts = append(parts, workers)
	}
	if s.Enable {
		parts = append(parts, "gets enabled")
	}
	if s.Clamped {
		parts = append(parts, fmt.Sprintf("has %s, the operator's limit", s.StopTimeout))
	}
	if s.StopTimeout > 0 && !s.SendSIGKILL {
		parts = append(parts, "never killed")
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// ExplainGeneration says in one plain sentence what happens to a scope.
func ExplainGeneration(g GenerationStep) string {
	what := "keep running on"
	switch g.Action {
	case DoStop:
		what = "stop on"
	case Signal:
		what = "get " + g.Signal + " on"
	}
	return fmt.Sprintf("%s in %s %s revision %s: %s", count(len(g.PIDs), "process"), g.Unit, what, g.Revision, g.Why)
}

// ExplainApp says in one plain sentence what happens to an app of the snap.
func ExplainApp(snapName string, a AppStep) string {
	what := "keeps running"
	if a.Action != Keep {
		what = "is ended"
	}
	return fmt.Sprintf("%s.%s %s on revision %s (pid %d): %s", snapName, a.App, what, a.Revision, a.PID, a.Why)
}

// label is "snap.app".
func (s Step) label() string {
	return strings.TrimSuffix(strings.TrimPrefix(s.Unit, "snap."), ".service")
}

func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
