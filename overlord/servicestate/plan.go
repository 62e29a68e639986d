// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"context"
	"errors"
	"slices"

	"endured/overlord/configstate"
	"endured/overlord/cutover"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/wrappers"
)

// doPlan decides what the change does to each service, and commits it: do,
// undo and a restarted daemon follow this plan.
func (m *Manager) doPlan(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.Snaps.SetupOf(t)
	if err != nil {
		return nil, err
	}
	if err := m.settle(ctx, s); err != nil {
		return nil, err
	}
	intent, err := m.Intend(ctx, s)
	if err != nil {
		return nil, err
	}
	for i := range intent.Plan.Services {
		t.Log("%s", lifecycle.Explain(intent.Plan.Services[i]))
	}
	return func(tx *state.Tx) error {
		return cutover.SetIntent(tx.Change(t.ChangeID()), s.Snap, intent)
	}, nil
}

// Intend makes the plan of a switch from what runs now. It changes nothing.
func (m *Manager) Intend(ctx context.Context, s *snapstate.Setup) (*cutover.Intent, error) {
	from, to, others, err := m.Snaps.Sides(s)
	if err != nil {
		return nil, err
	}
	rec, err := m.Snaps.Lookup(s.Snap)
	var missing *snapstate.NotInstalledError
	if errors.As(err, &missing) {
		rec = nil
	} else if err != nil {
		return nil, err
	}
	obs := lifecycle.Observed{Services: map[string]lifecycle.Service{}}
	if rec != nil {
		if obs, err = m.Snaps.Observe(ctx, rec, from); err != nil {
			return nil, err
		}
	}
	intent := &cutover.Intent{BootID: m.BootID, Record: rec}
	if rec != nil && to != nil {
		remember(obs.Services, rec, to, s.Event == lifecycle.Enable)
	}
	for app, svc := range obs.Services {
		if !svc.Enabled {
			intent.Disabled = append(intent.Disabled, app)
		}
	}
	slices.Sort(intent.Disabled)
	if intent.Override, err = configstate.Override(m.State, s.Snap); err != nil {
		return nil, err
	}
	intent.StopTimeoutMax = configstate.StopTimeoutMax(m.State)
	limits := map[string][]string{}
	if rec != nil && from != nil && s.Event.RefreshLike() {
		for app := range from.Apps {
			limits[app] = m.sealLimits(rec, from, app)
		}
	}
	plan, err := lifecycle.Decide(lifecycle.Input{
		Event: s.Event, SealLimits: limits, Old: from, New: to, Started: others, Observed: obs, Terminate: s.Terminate,
		Override: intent.Override, StopTimeoutMax: intent.StopTimeoutMax,
	})
	if err != nil {
		return nil, err
	}
	if to != nil { // what cannot be expressed is refused before anything is stopped
		if _, err := wrappers.Units(to, m.Wrap); err != nil {
			return nil, err
		}
	}
	intent.Plan = plan
	return intent, nil
}

// remember fills in what units that are gone would say: those of a disabled
// snap, when all, and those that only an earlier revision had.
func remember(services map[string]lifecycle.Service, rec *snapstate.Record, to *snap.Info, all bool) {
	for _, a := range to.Services() {
		if _, there := services[a.Name]; there {
			continue
		}
		off, stopped := slices.Contains(rec.Disabled, a.Name), slices.Contains(rec.HandStopped, a.Name)
		if off || stopped || all {
			services[a.Name] = lifecycle.Service{Enabled: !off, HandStopped: stopped}
		}
	}
}
