// SPDX-License-Identifier: Apache-2.0

package confinement

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"endured/interfaces/apparmor"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// before is the undo record of setup-profiles: what was there, if anything.
type before struct {
	Set  *apparmor.Set  `json:"set,omitempty"`
	Seal *apparmor.Seal `json:"seal,omitempty"`
}

// doSetup loads the profiles of the revision that becomes current, under names
// that nothing carries yet, and compiles the seals of the ones that are left: in
// the switch they only have to be loaded.
func (m *Manager) doSetup(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.Snaps.SetupOf(t)
	if err != nil {
		return nil, err
	}
	from, to, _, err := m.Snaps.Sides(s)
	if err != nil {
		return nil, err
	}
	if err := m.remember(t, s); err != nil {
		return nil, err
	}
	set, err := m.set(to)
	if err != nil {
		return nil, err
	}
	var left []apparmor.Left
	if !s.From.Unset() && s.From != s.To {
		left = append(left, apparmor.Left{Revision: s.From, Follow: followers(from)})
	}
	if !s.Brings() { // what is sealed is unsealed in the switch
		have, err := m.Profiles.Set(s.Snap, s.To)
		if err != nil {
			return nil, err
		}
		if have != nil {
			set.Seal = have.Seal
		}
	}
	cost, err := m.Profiles.Setup(ctx, set, left...)
	if err != nil {
		return nil, err
	}
	why := m.Profiles.WhyNot()
	if why == nil {
		t.Log("Profiles of %d programs: %s", len(set.Profiles), cost)
	}
	return func(tx *state.Tx) error {
		if why != nil && set.Mode == apparmor.Enforce && len(set.Profiles) > 0 {
			tx.Warnf("%s", Shortfall(why))
		}
		return nil
	}, nil
}

// followers are the apps that are told of a new revision, if no operator says
// otherwise, and may execute themselves anew.
func followers(info *snap.Info) []string {
	var out []string
	for _, a := range info.SortedApps() {
		if lifecycle.Told(a) {
			out = append(out, a.Name)
		}
	}
	return out
}

// Shortfall says what is not enforced of strict confinement on a host where
// profiles have no effect, for the given reason.
func Shortfall(why error) string {
	return "strict snaps are confined only partly, because " + strings.ReplaceAll(why.Error(), "\n", " and ") +
		": which files of the system they read and write, whose processes they signal and whether they use the network is not restricted, " +
		"and the data that a process loses with a refresh is sealed by mounts and file flags only; " +
		"an app that a user other than root runs sees all that the user sees, and has no mounts of its own that could be sealed"
}

const beforeKey = "profiles-before"

// remember notes what the revision's profiles were made from before the task
// ran for the first time. A run that a crash cut off may have replaced them.
func (m *Manager) remember(t *state.Task, s *snapstate.Setup) error {
	var b before
	err := t.Get(beforeKey, &b)
	if err == nil || !errors.Is(err, state.ErrNoState) {
		return err
	}
	if b.Set, err = m.Profiles.Set(s.Snap, s.To); err != nil {
		return err
	}
	if b.Set != nil {
		b.Seal = b.Set.Seal
	}
	return m.State.Update(func(tx *state.Tx) error { return tx.Task(t.ID()).Set(beforeKey, &b) })
}

func (m *Manager) undoSetup(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.Snaps.SetupOf(t)
	if err != nil {
		return nil, err
	}
	var b before
	if err := t.Get(beforeKey, &b); err != nil {
		return nil, fmt.Errorf("cannot tell which profiles were there before: %w", err)
	}
	err = m.takeBack(ctx, s, &b)
	var used *apparmor.InUseError
	if errors.As(err, &used) {
		// they go when nothing carries them any more, see linger
		t.Log("Profiles stay: %v", err)
		err = nil
	}
	if m.Specs != nil { // the record names the old revision again only now
		err = errors.Join(err, m.Specs.UpdatePeers(ctx, t))
	}
	return nil, err
}

func (m *Manager) takeBack(ctx context.Context, s *snapstate.Setup, b *before) error {
	ctx = context.WithoutCancel(ctx)
	if b.Set == nil {
		return m.Profiles.Unload(ctx, s.Snap, s.To)
	}
	b.Set.Seal = b.Seal
	_, err := m.Profiles.Load(ctx, b.Set)
	return err
}
