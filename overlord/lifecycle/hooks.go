// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "endured/snap"

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
