// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"

	"endured/overlord/state"
	"endured/systemd"
)

// Deeds is what a task asked of systemd, in the order of the requests: jobs,
// signals, reloads. A task that was undone, or run again, has those of each run.
type Deeds struct {
	Deeds []systemd.Deed `json:"deeds"`
	// LeftOut is how many more there were: see systemd.Ledger.
	LeftOut int `json:"left-out,omitempty"`
}

// maxDeeds is how many a task keeps of all its runs; the last ones.
const maxDeeds = 400

const deedsKey = "deeds"

// Witness is a state.Observer that keeps with each task what it asked of systemd.
func Witness(ctx context.Context, _ *state.Task) (context.Context, func(t *state.Task)) {
	ledger := &systemd.Ledger{}
	return systemd.WithLedger(ctx, ledger), func(t *state.Task) {
		deeds, leftOut := ledger.Deeds()
		if len(deeds) == 0 {
			return
		}
		all, err := DeedsOf(t)
		if err != nil {
			all = Deeds{} // rather those of this run than none
		}
		all.Deeds = append(all.Deeds, deeds...)
		all.LeftOut += leftOut
		if over := len(all.Deeds) - maxDeeds; over > 0 {
			all.Deeds, all.LeftOut = all.Deeds[over:], all.LeftOut+over
		}
		t.Set(deedsKey, all)
	}
}

// DeedsOf returns what a task asked of systemd.
func DeedsOf(t *state.Task) (Deeds, error) {
	var d Deeds
	err := t.Get(deedsKey, &d)
	if errors.Is(err, state.ErrNoState) {
		err = nil
	}
	return d, err
}
