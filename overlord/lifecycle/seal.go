// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "endured/snap"

// SealStep says that what stays from the revision that is left loses write
// access to its data there; with Why, that it does not. How well it is kept
// from writing the host decides: the record says so.
type SealStep struct {
	Revision snap.Revision `json:"revision"`
	Why      string        `json:"why,omitempty"` // "classic snaps are not sealed"
}

// seal is asked once it is decided what stays.
func (d *decision) seal() {
	p := d.plan
	if !d.in.Event.RefreshLike() || p.From == p.To || !d.stays(p.From) {
		return
	}
	p.Seal = &SealStep{Revision: p.From}
	if d.in.Old.Confinement == "classic" {
		p.Seal.Why = "classic snaps are not sealed"
	}
}

// stays tells whether the plan leaves a process of a revision running.
func (d *decision) stays(rev snap.Revision) bool {
	for _, s := range d.plan.Services {
		if s.From == rev && (s.MainPID != 0 && (s.Action == Keep || s.Action == Signal) || s.Survivors && s.Workers > 0) {
			return true
		}
	}
	for _, g := range d.plan.Generations {
		if g.Revision == rev && len(g.PIDs) > 0 && g.Action != DoStop {
			return true
		}
	}
	for _, a := range d.plan.Apps {
		if a.Revision == rev && a.Action == Keep {
			return true
		}
	}
	return false
}
