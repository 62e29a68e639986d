// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"endured/client"
)

// printPlans shows what a dry run answered.
func (a *app) printPlans(plans []client.Plan) {
	for i := range plans {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		a.printPlan(&plans[i])
	}
	if len(plans) > 0 {
		fmt.Fprintln(a.out, "\nNothing was changed.")
	}
}

// headline says what the plan is about, and names its column.
func headline(p *client.Plan) (line, column string) {
	verb := p.Event
	if verb == "local-install" {
		verb = "refresh"
	}
	from, to := isRevision(p.From), isRevision(p.To)
	switch {
	case from && to && p.From == p.To:
		line = fmt.Sprintf("%s of %q, revision %s:", title1(verb), p.Snap, p.To)
	case from && to:
		line = fmt.Sprintf("%s of %q from revision %s to %s:", title1(verb), p.Snap, p.From, p.To)
	case to:
		line = fmt.Sprintf("%s of %q, revision %s:", title1(verb), p.Snap, p.To)
	default:
		line = fmt.Sprintf("%s of %q:", title1(verb), p.Snap)
	}
	return line, "On " + verb
}

func title1(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] }

func isRevision(s string) bool { return s != "" && s != "unset" }

// actionWords are the plan's actions as a user reads them.
var actionWords = map[string]string{
	"leave": "stay down", "signal-start": "signal, then start",
}

func action(word, signal string, all bool) string {
	if w, ok := actionWords[word]; ok {
		word = w
	}
	if signal != "" && strings.HasPrefix(word, "signal") {
		word = strings.Replace(word, "signal", signal, 1)
		if all {
			word = strings.Replace(word, signal, signal+" to all", 1)
		}
	}
	return word
}

func (a *app) printPlan(p *client.Plan) {
	line, column := headline(p)
	a.say("%s", line)
	if len(p.Services)+len(p.Generations)+len(p.Apps) == 0 {
		fmt.Fprintln(a.out, "It has no services and nothing of it is running.")
		a.printHooks(p)
		return
	}
	t := newTable("Service", "Now", column, "Why")
	var details []string
	for i := range p.Services {
		s := &p.Services[i]
		now := "inactive"
		if isRevision(s.From) {
			now = "active"
		}
		t.add(p.Snap+"."+s.App, now, action(s.Action, s.Signal, s.All), printable(s.Why))
		details = append(details, stepDetails(p, s)...)
	}
	for i := range p.Generations {
		g := &p.Generations[i]
		t.add(fmt.Sprintf("%s.%s (%s)", p.Snap, g.App, g.Revision), counted(len(g.PIDs), "process"),
			action(g.Action, g.Signal, false), printable(g.Why))
	}
	for i := range p.Apps {
		s := &p.Apps[i]
		t.add(p.Snap+"."+s.App, fmt.Sprintf("pid %d", s.PID), action(s.Action, "", false), printable(s.Why))
	}
	if a.colour {
		t.style = actionStyle
	}
	t.write(a.out)
	if len(details) > 0 {
		fmt.Fprintln(a.out)
		for _, d := range details {
			a.say("%s", d)
		}
	}
	a.printHooks(p)
	a.printSeal(p)
}

// printSeal says what becomes of the data of those that stay.
func (a *app) printSeal(p *client.Plan) {
	switch {
	case p.Seal == nil:
	case p.Seal.Why != "":
		a.say("\nWhat stays can go on writing to the data of revision %s, which nobody reads afterwards: %s.", p.Seal.Revision, printable(p.Seal.Why))
	default:
		a.say("\nWhat stays can read the data of revision %s, and not write to it any more.", p.Seal.Revision)
		for _, l := range p.Seal.Limits {
			a.say("For %s.%s that is partly so: %s.", p.Snap, l.App, printable(l.Why))
		}
	}
}

// printHooks says which hooks are run.
func (a *app) printHooks(p *client.Plan) {
	moments := map[string]string{
		"before": "before anything is touched", "inside": "before services are started", "after": "at the end",
	}
	for n, h := range p.Hooks {
		if n == 0 {
			fmt.Fprintln(a.out)
		}
		a.say("The hook %s of revision %s runs %s.", printable(h.Hook), h.Revision, moments[h.When])
	}
}

// actionStyle colours the third column: what stays, what is disturbed, what ends.
func actionStyle(_, column int, text string) string {
	switch {
	case column != 2:
		return ""
	case text == "keep" || text == "start":
		return "\x1b[32m"
	case text == "stop":
		return "\x1b[31m"
	case text == "stay down":
		return ""
	}
	return "\x1b[33m"
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// stepDetails says, in a sentence each, what the table has no room for.
func stepDetails(p *client.Plan, s *client.Step) []string {
	name := p.Snap + "." + s.App
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	workers := ""
	if s.Workers > 0 {
		workers = " and " + counted(s.Workers, "worker")
	}
	if s.Action == "keep" && isRevision(s.From) && s.MainPID > 0 {
		add("%s keeps process %d%s on revision %s.", name, s.MainPID, workers, s.From)
	}
	if s.Survivors && s.Workers > 0 {
		add("%s leaves %s running on revision %s.", name, counted(s.Workers, "worker"), s.From)
	}
	if s.StopTimeout > 0 {
		bound := fmt.Sprintf("%s has %s to stop", name, s.StopTimeout)
		if s.Clamped {
			bound += " (the operator's limit)"
		}
		if s.SendSIGKILL {
			add("%s, then it is killed.", bound)
		} else {
			add("%s; it is never killed, and after that the %s is given up.", bound, strings.TrimPrefix(p.Event, "local-"))
		}
	}
	if s.Enable {
		add("%s gets enabled.", name)
	}
	if s.Undo == "restart" {
		add("Should the %s fail once it has stopped, %s is started again on revision %s.", strings.Replace(p.Event, "local-install", "refresh", 1), name, s.From)
	}
	return out
}
