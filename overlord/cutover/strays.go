// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"

	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
)

// strays finds, once nothing can start any more, what has been started since
// the plan was made and belongs to the side that is left: by a connection, by
// hand, or by a crash. Going forward it is treated as it would have been had it
// run already; going back it returns to the revision that returns.
func (sw *Switch) strays(ctx context.Context, c course) error {
	if c.target == nil || c.other == nil {
		return nil // everything is wanted down, or nothing ran before
	}
	found := false
	for _, a := range c.wished(leave) {
		if service(c.target, a.Name) == nil {
			continue // is stopped
		}
		stray, err := sw.isStray(ctx, c, a)
		if err != nil {
			return err
		}
		if !stray {
			continue
		}
		w := up
		if c.forward {
			if w, err = sw.decideLate(ctx, a.Name); err != nil {
				return err
			}
		}
		c.wish[a.Name] = w
		if w == up {
			sw.task.Log("%s was started meanwhile, and is restarted", a.Unit())
			found = true
		}
	}
	if found {
		return sw.tellWhy(c)
	}
	return nil
}

func (sw *Switch) isStray(ctx context.Context, c course, a *snap.App) (bool, error) {
	sts, err := sw.m.Systemd.Status(ctx, a.Unit())
	if err != nil {
		return false, err
	}
	st := sts[0]
	if !snapstate.UnitRuns(st) || sw.m.Snaps.RevisionOf(sw.record, a.Name, st) != c.other.Revision {
		return false, nil
	}
	step := sw.intent.Plan.Step(a.Name)
	return step == nil || step.InvocationID != st.InvocationID, nil
}

// decideLate asks again about a service that the plan took for one that does
// not run.
func (sw *Switch) decideLate(ctx context.Context, app string) (wish, error) {
	obs, err := sw.m.Snaps.Observe(ctx, sw.record, sw.from)
	if err != nil {
		return leave, err
	}
	plan, err := lifecycle.Decide(lifecycle.Input{
		Event: sw.setup.Event, Old: sw.from, New: sw.to, Started: sw.others, Observed: obs, Terminate: sw.setup.Terminate,
		Override: sw.intent.Override, StopTimeoutMax: sw.intent.StopTimeoutMax,
	})
	if err != nil {
		return leave, err
	}
	step := plan.Step(app)
	if step == nil {
		return leave, nil
	}
	sw.late[app] = *step
	return forwardWish(*step), nil
}

// step is the one of that service, nil if the plan has none.
func (sw *Switch) step(app string) *lifecycle.Step {
	if late, ok := sw.late[app]; ok {
		return &late
	}
	return sw.intent.Plan.Step(app)
}

// steps are the plan's, with what was decided late in its place.
func (sw *Switch) steps() []lifecycle.Step {
	out := make([]lifecycle.Step, 0, len(sw.intent.Plan.Services))
	for _, s := range sw.intent.Plan.Services {
		if late, ok := sw.late[s.App]; ok {
			s = late
		}
		out = append(out, s)
	}
	return out
}
