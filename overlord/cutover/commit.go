// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"errors"
	"slices"

	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// OutcomesKey is the change's data under which the outcomes of a snap's
// services are found: []Outcome, in the plan's order.
const OutcomesKey = "services/"

// commit records where the switch has arrived, in the transaction that marks
// its task done.
func (sw *Switch) commit(tx *state.Tx) error {
	rec, err := snapstate.Get(tx, sw.setup.Snap)
	var missing *snapstate.NotInstalledError
	switch {
	case errors.As(err, &missing):
		rec = &snapstate.Record{Name: sw.setup.Snap}
	case err != nil:
		return err
	}
	if e := sw.setup.Rev; e != nil {
		// one that was there before is the newest now
		rec.Sequence = slices.DeleteFunc(slices.Clone(rec.Sequence), func(had snapstate.Revision) bool { return had.Revision == e.Revision })
		rec.Sequence = append(rec.Sequence, *e)
		rec.Flags = e.Flags
		rec.LastLocal = max(rec.LastLocal, -int(e.Revision))
	}
	if sw.setup.Channel != "" {
		rec.Channel = sw.setup.Channel
	}
	rec.Active = sw.to != nil
	if sw.to != nil {
		rec.Current = sw.to.Revision
		if e := rec.Rev(rec.Current); e != nil {
			rec.Flags = e.Flags
		}
		// those that this revision lacks may come back with another
		rec.Disabled = slices.DeleteFunc(slices.Concat(rec.Disabled, sw.intent.Disabled), func(app string) bool {
			return service(sw.to, app) != nil
		})
	} else {
		rec.Disabled = sw.intent.Disabled
	}
	if rec.Started == nil {
		rec.Started = map[string]snapstate.Started{}
	}
	var outcomes []*Outcome
	for _, step := range sw.intent.Plan.Services {
		o := sw.outcome(step.App)
		outcomes = append(outcomes, o)
		sw.note(rec, step, o)
	}
	sw.noteSeal(tx, rec)
	if err := tx.Change(sw.task.ChangeID()).Set(OutcomesKey+sw.setup.Snap, outcomes); err != nil {
		return err
	}
	sw.config(rec)
	if err := snapstate.Put(tx, rec); err != nil {
		return err
	}
	return sw.m.Hooks.Commit(tx, sw.task.ID())
}

// config keeps the options with the revision that is left, and takes those of
// one that a revert returns to. What another revision said of its health is
// over.
func (sw *Switch) config(rec *snapstate.Record) {
	if sw.from == nil || sw.to == nil {
		return
	}
	if e := rec.Rev(sw.from.Revision); e != nil {
		if e.Config = rec.Config; len(e.Config) == 0 {
			e.Config = []byte("{}")
		}
	}
	if e := rec.Rev(sw.to.Revision); e != nil && sw.setup.Event == lifecycle.Revert && len(e.Config) > 0 {
		rec.Config = e.Config
	}
	rec.Health = nil
}

// note keeps what has to be known of a service later.
func (sw *Switch) note(rec *snapstate.Record, step lifecycle.Step, o *Outcome) {
	delete(rec.Started, step.App)
	if o.InvocationID != "" && !o.ToRev.Unset() {
		rec.Started[step.App] = snapstate.Started{InvocationID: o.InvocationID, Revision: o.ToRev}
	}
	started := !o.ToRev.Unset() || step.Action == lifecycle.DoStart || step.Action == lifecycle.DoRestart
	by := slices.Contains(rec.HandStopped, step.App)
	switch {
	case o.StoppedByHand && !by:
		rec.HandStopped = append(rec.HandStopped, step.App)
	case by && !o.StoppedByHand && started: // one that this revision lacks may come back with another
		rec.HandStopped = slices.DeleteFunc(rec.HandStopped, func(a string) bool { return a == step.App })
	}
}

// uncommit puts the record back as it was before the switch. A revision that
// was dropped since does not come back.
func (sw *Switch) uncommit(tx *state.Tx) error {
	if sw.intent.Record == nil {
		return snapstate.Remove(tx, sw.setup.Snap)
	}
	now, err := snapstate.Get(tx, sw.setup.Snap)
	if err != nil {
		return err
	}
	rec := *sw.intent.Record
	rec.Sequence = slices.DeleteFunc(slices.Clone(rec.Sequence), func(e snapstate.Revision) bool {
		return now.Rev(e.Revision) == nil
	})
	return snapstate.Put(tx, &rec)
}

// RecordOf returns what a change had planned for the services of a snap, and
// what happened; nil where it has not come so far, or has none to do with them.
func RecordOf(c *state.Change, snapName string) (*lifecycle.Plan, []*Outcome, error) {
	var i Intent
	if err := c.Get(intentKey+snapName, &i); errors.Is(err, state.ErrNoState) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	var done []*Outcome
	if err := c.Get(OutcomesKey+snapName, &done); err != nil && !errors.Is(err, state.ErrNoState) {
		return nil, nil, err
	}
	return i.Plan, done, nil
}
