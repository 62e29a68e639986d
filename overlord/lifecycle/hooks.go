// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"endured/snap"
)

// Moment is when in the course of an event something is done.
type Moment string

// The moments.
const (
	// Before is while everything still runs and nothing was touched.
	Before Moment = "before"
	// Inside is in the switch, when the new revision is in its place and none
	// of its services has been started.
	Inside Moment = "inside"
	// After is when the new revision serves.
	After Moment = "after"
)

// HeldHookTime is how long a hook inside a refresh may take: whoever needs a
// service of the snap waits for it, and a client of D-Bus activation gives up
// after 25 s. For what is installed for the first time nobody waits.
const HeldHookTime = 15 * time.Second

// HookTime is how long every other hook may take, as in snapd.
const HookTime = 10 * time.Minute

// HookStep is a hook that an event runs.
type HookStep struct {
	Hook     string        `json:"hook"`
	Revision snap.Revision `json:"revision"` // whose hook it is
	When     Moment        `json:"when"`
	// Ignored tells that its failure is noted and changes nothing.
	Ignored bool `json:"ignored,omitempty"`
}

// Hooks says which hooks an event runs, in order. old and next are the
// revisions that are current before and after it, nil for none.
func Hooks(e Event, old, next *snap.Info) []HookStep {
	var out []HookStep
	add := func(info *snap.Info, when Moment, names ...string) {
		for _, n := range names {
			if info != nil && info.Hooks[n] != nil {
				out = append(out, HookStep{Hook: n, Revision: info.Revision, When: when,
					Ignored: n == snap.HookRemove || n == snap.HookCheckHealth})
			}
		}
	}
	switch e {
	case Install:
		add(next, Inside, snap.HookInstall, snap.HookDefaultConfigure)
	case Refresh, LocalInstall:
		add(old, Before, snap.HookPreRefresh)
		add(next, Inside, snap.HookPostRefresh)
	case Remove:
		add(old, Before, snap.HookRemove)
	}
	switch e {
	case Install, Refresh, LocalInstall, Revert:
		add(next, After, snap.HookConfigure, snap.HookCheckHealth)
	case Configure:
		add(next, After, snap.HookConfigure)
	}
	return out
}

// HooksAt are those of the hooks that belong to a moment.
func HooksAt(all []HookStep, when Moment) []HookStep {
	var out []HookStep
	for _, h := range all {
		if h.When == when {
			out = append(out, h)
		}
	}
	return out
}

// HookSentences says, for each hook of a revision, when it is run, how long it
// may take, and what it means if it fails.
func HookSentences(info *snap.Info) []Sentence {
	texts := map[string]string{
		snap.HookInstall:          "'snap install' runs it when everything is in place and before services are started (it has %s): if it fails, nothing is installed.",
		snap.HookDefaultConfigure: "'snap install' runs it before services are started (it has %s): if it fails, nothing is installed.",
		snap.HookPreRefresh:       "A refresh from this revision runs it before anything is touched (it has %s): if it fails, there is no refresh.",
		snap.HookPostRefresh:      "A refresh to this revision runs it before services are started, which wait for it (it has %s, then SIGKILL): if it fails, the refresh is taken back.",
		snap.HookConfigure:        "An installation, a refresh, a revert and 'snap set' run it at the end (it has %s): if it fails, they are taken back.",
		snap.HookCheckHealth:      "An installation, a refresh and a revert run it last (it has %s): if it fails, the health of the snap is error.",
		snap.HookRemove:           "'snap remove' runs it while everything is still there (it has %s): if it fails, the snap is removed all the same.",
		snap.HookGateAutoRefresh:  "It is not run, as there are no refreshes that begin by themselves.",
	}
	var out []Sentence
	for _, h := range info.SortedHooks() {
		text, bound := texts[h.Name], HookTime
		if h.Name == snap.HookPostRefresh {
			bound = HeldHookTime
		}
		if strings.Contains(text, "%s") {
			text = fmt.Sprintf(text, bound)
		}
		out = append(out, Sentence{Hook: h.Name, Text: text})
	}
	return out
}
