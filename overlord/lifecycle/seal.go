// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"slices"

	"endured/snap"
)

// SealStep says that what stays from the revision that is left loses write
// access to its data there; with Why, that it does not. How well it is kept
// from writing the host decides, too: the record says so.
type SealStep struct {
	Revision snap.Revision `json:"revision"`
	Why      string        `json:"why,omitempty"` // "classic snaps are not sealed"
	// Limits says why some of what stays is kept off only partly.
	Limits []SealLimit `json:"limits,omitempty"`
}

// SealLimit is about one app or service that stays.
type SealLimit struct {
	App string `json:"app"`
	Why string `json:"why"`
}

// What keeps every seal of a snap from being whole, whoever asks.
const (
	ClassicSeal = "classic snaps are not sealed"
	DevModeSeal = "in devmode no profile keeps it off"
)

// seal is asked once it is decided what stays.
func (d *decision) seal() {
	p := d.plan
	if !d.in.Event.RefreshLike() || p.From == p.To {
		return
	}
	stay := d.staying(p.From)
	if len(stay) == 0 {
		return
	}
	p.Seal = &SealStep{Revision: p.From}
	if d.in.Old.Confinement == "classic" {
		p.Seal.Why = ClassicSeal
		return
	}
	for _, app := range stay {
		for _, why := range d.in.SealLimits[app] {
			p.Seal.Limits = append(p.Seal.Limits, SealLimit{App: app, Why: why})
		}
	}
}

// staying lists the apps and services of which the plan leaves a process of a
// revision running.
func (d *decision) staying(rev snap.Revision) []string {
	var out []string
	for _, s := range d.plan.Services {
		if s.From == rev && (s.MainPID != 0 && (s.Action == Keep || s.Action == Signal) || s.Survivors && s.Workers > 0) {
			out = append(out, s.App)
		}
	}
	for _, g := range d.plan.Generations {
		if g.Revision == rev && len(g.PIDs) > 0 && g.Action != DoStop {
			out = append(out, g.App)
		}
	}
	for _, a := range d.plan.Apps {
		if a.Revision == rev && a.Action == Keep {
			out = append(out, a.App)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
