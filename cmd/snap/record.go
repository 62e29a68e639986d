// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"endured/client"
)

// tellRecord says, in a paragraph for each snap, what runs the new revision
// after a refresh, what still runs an old one and why, and how to finish.
func (a *app) tellRecord(ch *client.Change) {
	came := ch.Succeeded()
	for i := range ch.Records {
		r := &ch.Records[i]
		if !slices.Contains(came, r.Snap) || r.Plan == nil || len(r.Outcomes) == 0 || !refreshLike(r.Plan.Event) {
			continue
		}
		for _, line := range wrap(paragraph(r), min(a.width(), 100)) {
			a.say("%s", printable(line))
		}
	}
}

func refreshLike(event string) bool {
	return event == "refresh" || event == "local-install" || event == "revert"
}

// paragraph is the summary of one snap.
func paragraph(r *client.Record) string {
	var text, left, restart []string
	p := r.Plan
	for _, o := range r.Outcomes {
		name := p.Snap + "." + o.App
		s := step(p, o.App)
		switch {
		case isRevision(o.To) && o.To == p.To && o.From != o.To && isRevision(o.From):
			line := fmt.Sprintf("%s runs revision %s", name, o.To)
			if o.GapMS > 0 {
				line += fmt.Sprintf(" after a gap of %.1f ms", o.GapMS)
			}
			text = append(text, line+".")
		case isRevision(o.To) && o.To == p.To && !isRevision(o.From):
			text = append(text, fmt.Sprintf("%s was started, on revision %s.", name, o.To))
		case isRevision(o.To) && o.To == p.To:
			text = append(text, fmt.Sprintf("%s runs on, from revision %s.", name, o.To))
		case isRevision(o.To) && o.To != p.To:
			left = append(left, fmt.Sprintf("%s still runs revision %s (pid %d): %s.", name, o.To, o.NewPID, s.Why))
			restart = append(restart, name)
		case isRevision(o.From):
			text = append(text, fmt.Sprintf("%s was stopped: %s.", name, s.Why))
		}
		if s.Survivors && s.Workers > 0 && isRevision(o.From) && o.To != o.From {
			left = append(left, fmt.Sprintf("%s of %s still %s revision %s: left to finish.", counted(s.Workers, "worker"), name, runs(s.Workers), o.From))
		}
	}
	for _, g := range p.Generations {
		if g.Action == "stop" || len(g.PIDs) == 0 {
			continue
		}
		left = append(left, fmt.Sprintf("%s of %s.%s still %s revision %s: %s.", counted(len(g.PIDs), "process"), p.Snap, g.App, runs(len(g.PIDs)), g.Revision, g.Why))
	}
	text = append(text, left...)
	switch {
	case len(restart) > 0:
		text = append(text, fmt.Sprintf("'snap restart %s' starts the new revision in its place.", strings.Join(restart, " ")))
	case len(left) > 0:
		text = append(text, fmt.Sprintf("Revision %s stays until they have ended; 'snap services %s' shows what runs.", p.From, p.Snap))
	}
	return strings.Join(text, " ")
}

func runs(n int) string {
	if n == 1 {
		return "runs"
	}
	return "run"
}

// step is the plan's step of a service; a missing one is empty.
func step(p *client.Plan, app string) client.Step {
	for _, s := range p.Services {
		if s.App == app {
			return s
		}
	}
	return client.Step{}
}

// printRecord shows, for each service, what was planned and what happened.
func (a *app) printRecord(r *client.Record) {
	if r.Plan == nil || len(r.Plan.Services) == 0 {
		return
	}
	done := map[string]client.Outcome{}
	for _, o := range r.Outcomes {
		done[o.App] = o
	}
	t := newTable("Service", "Planned", "Happened", "From", "To", "Gap", "Why")
	for i := range r.Plan.Services {
		s := &r.Plan.Services[i]
		o, ok := done[s.App]
		happened, gap, from, to := "", "", "", ""
		if ok {
			happened = action(o.Action, s.Signal, s.All)
			from, to = revisionOrNone(o.From), revisionOrNone(o.To)
			if o.GapMS > 0 {
				gap = fmt.Sprintf("%.1fms", o.GapMS)
			}
		}
		t.add(r.Snap+"."+s.App, action(s.Action, s.Signal, s.All), happened, from, to, gap, printable(s.Why))
	}
	fmt.Fprintln(a.out)
	t.write(a.out)
}

func revisionOrNone(rev string) string {
	if !isRevision(rev) {
		return ""
	}
	return rev
}
