// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"endured/interfaces/apparmor"
	"endured/overlord/lifecycle"
	"endured/overlord/seal"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// seal gives the processes of the side that is arrived at their data back, and
// keeps those that stay from the side that is left from writing to theirs. All
// that was to end has ended by now, and nothing is copied yet.
func (sw *Switch) seal(ctx context.Context, c course) error {
	sw.sealed = nil
	if c.target == nil {
		return nil // nothing stays
	}
	fresh := c.forward && sw.setup.Brings()
	if fresh {
		// an earlier revision of that number
		if err := sw.m.Seals.Forget(sw.setup.Snap, c.target.Revision); err != nil {
			return err
		}
	} else if err := sw.m.Seals.Unseal(ctx, sw.record, c.target.Revision); err != nil {
		return err
	}
	if c.other == nil || c.other.Revision == c.target.Revision {
		return nil // there is no other side
	}
	if err := sw.redirect(ctx, c); err != nil {
		return err
	}
	if !c.forward && sw.setup.Brings() {
		return nil // its data goes
	}
	mains, err := sw.staying(ctx, c)
	if err != nil {
		return err
	}
	res, err := sw.m.Seals.Seal(ctx, seal.Spec{
		Record: sw.record, Revision: c.other.Revision, Successor: c.target.Revision, Mains: mains, Told: sw.told(c),
	})
	if err != nil {
		return err
	}
	if res.Seal == nil {
		return nil
	}
	if res.Steps != "" {
		sw.task.Debug("Steps of the seal: %s", res.Steps)
	}
	if !c.forward { // it is as it was recorded, or will be
		sw.m.Seals.Watch(sw.setup.Snap, c.other.Revision)
		return nil
	}
	sw.sealed = res.Seal
	sw.m.Snaps.Restamped(sw.task.ChangeID(), sw.setup, res.Stamps)
	return nil
}

// prepareSeal is for before anything is held: the seal itself is in the gap.
func (sw *Switch) prepareSeal(ctx context.Context, c course) {
	if !c.forward || c.target == nil || c.other == nil || c.other.Revision == c.target.Revision {
		return
	}
	spec := seal.Spec{Record: sw.record, Successor: c.target.Revision, Told: sw.told(c)}
	if sw.intent.Plan.Seal != nil {
		spec.Revision = c.other.Revision
	}
	if !spec.Revision.Unset() || sw.older(c) {
		sw.m.Seals.Prepare(ctx, spec)
	}
}

// redirect has those that stay at still older revisions, and put themselves into a
// newer one when they are told, arrive at the one that becomes current.
func (sw *Switch) redirect(ctx context.Context, c course) error {
	if !sw.older(c) {
		return nil
	}
	spec := seal.Spec{Record: sw.record, Revision: c.other.Revision, Successor: c.target.Revision, Told: sw.told(c)}
	if err := sw.m.Seals.Redirect(ctx, spec); err != nil {
		if ctx.Err() != nil {
			return err
		}
		sw.task.Log("Processes of older revisions cannot execute revision %s: %v", c.target.Revision, err)
	}
	return nil
}

// older tells whether something may stay that is older than what is left.
func (sw *Switch) older(c course) bool {
	is := func(rev snap.Revision) bool { return rev != c.other.Revision && rev != c.target.Revision }
	return slices.ContainsFunc(sw.record.Seals, func(s snapstate.Seal) bool { return is(s.Revision) }) ||
		slices.ContainsFunc(sw.told(c), func(l apparmor.Left) bool { return is(l.Revision) })
}

// told lists the apps that are told of the revision that is arrived at, by the one
// that they were started from.
func (sw *Switch) told(c course) []apparmor.Left {
	var out []apparmor.Left
	add := func(rev snap.Revision, app string) {
		i := slices.IndexFunc(out, func(l apparmor.Left) bool { return l.Revision == rev })
		if i < 0 {
			i, out = len(out), append(out, apparmor.Left{Revision: rev})
		}
		if !slices.Contains(out[i].Follow, app) {
			out[i].Follow = append(out[i].Follow, app)
		}
	}
	if !c.forward {
		return nil
	}
	for _, s := range sw.steps() {
		if s.Action == lifecycle.Signal {
			add(s.From, s.App)
			// one that was told before may have followed unseen since then
			add(c.other.Revision, s.App)
		}
	}
	for _, g := range sw.intent.Plan.Generations {
		if g.Action == lifecycle.Signal {
			add(g.Revision, g.App)
		}
	}
	return out
}

// staying lists the main processes that stay from the side that is left.
func (sw *Switch) staying(ctx context.Context, c course) ([]snapstate.Process, error) {
	var out []snapstate.Process
	if !c.forward { // those that it was sealed for before
		if was := sw.record.Seal(c.other.Revision); was != nil {
			for _, p := range was.Processes {
				if p.Alive() {
					out = append(out, p.Process)
				}
			}
		}
		return out, nil
	}
	for _, s := range sw.steps() {
		if s.Action != lifecycle.Keep && s.Action != lifecycle.Signal || s.MainPID == 0 || s.From != c.other.Revision || c.wish[s.App] == up {
			continue
		}
		sts, err := sw.m.Systemd.Status(ctx, s.Unit)
		if err != nil {
			return nil, err
		}
		if sts[0].MainPID == s.MainPID && sts[0].InvocationID == s.InvocationID {
			out = append(out, snapstate.Process{PID: s.MainPID, Unit: s.Unit, App: s.App, Revision: s.From})
		}
	}
	return out, nil
}

// noteSeal records the seal, says what it is not, and has the rest tried again.
func (sw *Switch) noteSeal(tx *state.Tx, rec *snapstate.Record) {
	if sw.to != nil {
		rec.DropSeals(func(rev snap.Revision) bool { return rev == sw.to.Revision })
	}
	s := sw.sealed
	if s == nil {
		return
	}
	rec.SetSeal(s)
	if s.State != snapstate.Sealed {
		tx.Warnf("snap %q: %s revision %s; its data in %s is %s (%s): what is written there now is in no later revision",
			sw.setup.Snap, whoStays(sw.setup.Snap, s), s.Revision, sw.m.Dirs.Data(sw.setup.Snap, s.Revision), s.State, strings.Join(s.Why, "; "))
	}
	if s.Pending {
		sw.m.Seals.Watch(sw.setup.Snap, s.Revision)
	}
}

// whoStays says "web.svc (pid 812) and 3 other processes still run from".
func whoStays(name string, s *snapstate.Seal) string {
	first := s.Processes[0]
	does := "run from"
	if first.Snap != "" {
		name, does = first.Snap, "use the shared data of"
	}
	text := fmt.Sprintf("%s.%s (pid %d)", name, first.App, first.PID)
	switch n := len(s.Processes) - 1; n {
	case 0:
		verb, rest, _ := strings.Cut(does, " ")
		return text + " still " + verb + "s " + rest
	case 1:
		return text + " and 1 other process still " + does
	default:
		return fmt.Sprintf("%s and %d other processes still %s", text, n, does)
	}
}
