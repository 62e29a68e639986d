// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"endured/interfaces"
	"endured/overlord/configstate"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/store"
	"endured/wrappers"
)

// StoreOptions are how snaps come from the store.
type StoreOptions struct {
	snapstate.Flags
	Channel  string        // "" is the one that is tracked, else latest/stable
	Revision snap.Revision // for a single snap, in place of what the channel has
	Amend    bool          // go from a local revision to one of the store
	Together bool          // several snaps: all of them or none
}

type (
	// AlreadyInstalledError says that a snap to install is there.
	AlreadyInstalledError struct{ Snap string }
	// NoUpdateError says that a snap is what the store has.
	NoUpdateError struct{ Snap string }
	// LocalError says that the current revision came from a file.
	LocalError struct {
		Snap     string
		Revision snap.Revision
	}
)

func (e *AlreadyInstalledError) Error() string {
	return fmt.Sprintf("snap %q is already installed, see 'snap help refresh'", e.Snap)
}

func (e *NoUpdateError) Error() string {
	return fmt.Sprintf("snap %q has no updates available", e.Snap)
}

func (e *LocalError) Error() string {
	return fmt.Sprintf("cannot refresh %q: its revision %s came from a file; --amend goes to the store's", e.Snap, e.Revision)
}

// Update is a refresh that is possible: what it brings and what it would do.
type Update struct {
	Offer *store.Snap
	Info  *snap.Info
	Plan  *lifecycle.Plan // nil if Err says why it cannot be
	Err   error
}

// InstallNames installs snaps from the store. Those that are there already are
// left as they are; if none is new the error is an *AlreadyInstalledError.
func (m *Manager) InstallNames(ctx context.Context, names []string, o StoreOptions) (string, error) {
	list, err := m.setupNames(ctx, names, o)
	if err != nil {
		return "", err
	}
	if err := m.planAll(ctx, list); err != nil {
		return "", err
	}
	return m.startStore("install-snap", "Install", list, o, nil)
}

// PlanInstallNames returns what InstallNames would do.
func (m *Manager) PlanInstallNames(ctx context.Context, names []string, o StoreOptions) ([]*lifecycle.Plan, error) {
	list, err := m.setupNames(ctx, names, o)
	if err != nil {
		return nil, err
	}
	return m.plans(ctx, list)
}

// Refresh refreshes snaps from the store: those named, or all that have an
// update and are not held, each in a lane of its own. A snap that is named and has none is a
// *NoUpdateError if it is the only one.
func (m *Manager) Refresh(ctx context.Context, names []string, o StoreOptions) (string, error) {
	updates, err := m.updates(ctx, names, o)
	if err != nil {
		return "", err
	}
	var list []*snapstate.Setup
	var skipped []error
	for _, u := range updates {
		if u.err == nil && u.setup.To != u.setup.From {
			_, u.err = m.plan(ctx, u.setup)
		}
		switch {
		case u.err != nil && len(names) > 0:
			return "", u.err
		case u.err != nil:
			skipped = append(skipped, fmt.Errorf("snap %q was not refreshed: %w", u.name, u.err))
		default:
			list = append(list, u.setup)
		}
	}
	if len(list) == 0 {
		if err := errors.Join(skipped...); err != nil {
			return "", err
		}
		if len(names) == 1 {
			return "", &NoUpdateError{Snap: names[0]}
		}
		return m.nothingToRefresh()
	}
	return m.startStore("refresh-snap", "Refresh", list, o, skipped)
}

// PlanRefresh returns what Refresh would do.
func (m *Manager) PlanRefresh(ctx context.Context, names []string, o StoreOptions) ([]*lifecycle.Plan, error) {
	updates, err := m.updates(ctx, names, o)
	if err != nil {
		return nil, err
	}
	var list []*snapstate.Setup
	for _, u := range updates {
		if u.err != nil {
			return nil, u.err
		}
		list = append(list, u.setup)
	}
	return m.plans(ctx, list)
}

// Updates lists the refreshes that are possible, by name.
func (m *Manager) Updates(ctx context.Context) ([]Update, error) {
	updates, err := m.updates(ctx, nil, StoreOptions{})
	if err != nil {
		return nil, err
	}
	var out []Update
	for _, u := range updates {
		r := Update{Err: u.err, Offer: &store.Snap{Name: u.name}}
		if u.setup != nil {
			r.Offer = u.setup.Offer
			if r.Info, err = snap.Parse([]byte(u.setup.Rev.YAML)); err != nil {
				return nil, err
			}
		}
		if r.Err == nil {
			r.Plan, r.Err = m.plan(ctx, u.setup)
		}
		out = append(out, r)
	}
	return out, nil
}

// SwitchChannel changes which channel a snap tracks, and nothing else.
func (m *Manager) SwitchChannel(ctx context.Context, name, channel string) (string, error) {
	if err := m.idle(name); err != nil {
		return "", err
	}
	rec, err := m.Installed.Lookup(name)
	if err != nil {
		return "", err
	}
	c, err := tracked(rec, channel)
	if err != nil {
		return "", err
	}
	s := &snapstate.Setup{Snap: name, Event: lifecycle.Refresh, From: rec.Current, To: rec.Current, Channel: c.String()}
	return m.start("switch-snap", fmt.Sprintf("Switch %q snap to %s", name, c), unchanged(name, rec.Current, rec.Active), forSwitchChannel(s))
}

// defaultTimer is snapd's: four times a day.
const defaultTimer = "00:00~24:00/4"

// RefreshTimes is when snaps are to be refreshed by themselves, and until when
// not: an RFC 3339 time, or "".
func (m *Manager) RefreshTimes() (timer, hold string) {
	timer, hold = configstate.RefreshTimes(m.State)
	if timer == "" {
		timer = defaultTimer
	}
	return timer, hold
}

// Details describes a snap of the store.
func (m *Manager) Details(ctx context.Context, name string) (*store.Details, error) {
	return m.Store.Details(ctx, name)
}

// Search lists snaps of the store.
func (m *Manager) Search(ctx context.Context, words string) ([]*store.Details, error) {
	return m.Store.Search(ctx, words)
}

// Download returns a revision of the store and its file, which the caller
// verifies and closes. Without a revision it is the channel's.
func (m *Manager) Download(ctx context.Context, name, channel string, rev snap.Revision) (*store.Snap, io.ReadCloser, error) {
	c, err := tracked(nil, channel)
	if err != nil {
		return nil, nil, err
	}
	results, err := m.Store.Resolve(ctx, []store.Action{{Name: name, Channel: c, Revision: rev}})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := m.Store.Open(ctx, results[0].Snap)
	return results[0].Snap, file, err
}

// tracked is the channel that a snap is to come from; rec may be nil.
func tracked(rec *snapstate.Record, wanted string) (store.Channel, error) {
	var c store.Channel
	var err error
	if rec != nil {
		if c, err = store.ParseChannel(rec.Channel); err != nil {
			return c, err
		}
	}
	if wanted == "" {
		return c, nil
	}
	return c.Resolve(wanted)
}

// setupNames makes the setups of an installation.
func (m *Manager) setupNames(ctx context.Context, names []string, o StoreOptions) ([]*snapstate.Setup, error) {
	names = unique(names)
	if err := m.idle(names...); err != nil {
		return nil, err
	}
	c, err := tracked(nil, o.Channel)
	if err != nil {
		return nil, err
	}
	var actions []store.Action
	for _, name := range names {
		if err := snap.CheckName(name); err != nil {
			return nil, &store.NotFoundError{Name: name}
		}
		_, err := m.Installed.Lookup(name)
		var missing *snapstate.NotInstalledError
		switch {
		case errors.As(err, &missing):
			actions = append(actions, store.Action{Name: name, Channel: c, Revision: o.Revision})
		case err != nil:
			return nil, err
		}
	}
	if len(actions) == 0 {
		return nil, &AlreadyInstalledError{Snap: names[0]}
	}
	results, err := m.Store.Resolve(ctx, actions)
	if err != nil {
		return nil, err
	}
	var out []*snapstate.Setup
	for _, r := range results {
		if r.Err != nil {
			return nil, r.Err
		}
		s, err := m.setupOffer(r.Snap, nil, c, o)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// update is a refresh in the making: a setup or an error.
type update struct {
	name  string
	setup *snapstate.Setup
	err   error
}

// updates asks the store about installed snaps: those named, or all that track
// a channel. A snap without an update is left out, unless its channel changes.
func (m *Manager) updates(ctx context.Context, names []string, o StoreOptions) ([]update, error) {
	recs, err := m.refreshable(unique(names), o)
	if err != nil || len(recs) == 0 {
		return nil, err
	}
	var actions []store.Action
	var channels []store.Channel
	for _, rec := range recs {
		c, err := tracked(rec, o.Channel)
		if err != nil {
			return nil, err
		}
		channels = append(channels, c)
		actions = append(actions, store.Action{Name: rec.Name, Channel: c, Revision: o.Revision, Current: rec.Current})
	}
	results, err := m.Store.Resolve(ctx, actions)
	if err != nil {
		return nil, err
	}
	var out []update
	for i, rec := range recs {
		u := update{name: rec.Name, err: results[i].Err}
		if u.err == nil {
			offer := results[i].Snap
			switches := channels[i].String() != rec.Channel
			switch {
			case offer.Revision == rec.Current && switches:
				u.setup = &snapstate.Setup{Snap: rec.Name, Event: lifecycle.Refresh, From: rec.Current, To: rec.Current, Channel: channels[i].String()}
			case offer.Revision == rec.Current, o.Revision.Unset() && !switches && blocked(rec, offer.Revision):
				continue
			default:
				u.setup, u.err = m.setupOffer(offer, rec, channels[i], o)
			}
		}
		out = append(out, u)
	}
	return out, nil
}

// blocked tells whether a revert has gone back from a revision: a refresh does
// not go there again by itself.
func blocked(rec *snapstate.Record, rev snap.Revision) bool {
	at := slices.IndexFunc(rec.Sequence, func(e snapstate.Revision) bool { return e.Revision == rec.Current })
	return at >= 0 && slices.ContainsFunc(rec.Sequence[at+1:], func(e snapstate.Revision) bool { return e.Revision == rev })
}

// refreshable finds the records to ask the store about.
func (m *Manager) refreshable(names []string, o StoreOptions) ([]*snapstate.Record, error) {
	var out []*snapstate.Record
	if len(names) > 0 {
		for _, name := range names {
			rec, err := m.active("refresh", name)
			if err != nil {
				return nil, err
			}
			if rec.Current.Local() && !o.Amend {
				return nil, &LocalError{Snap: name, Revision: rec.Current}
			}
			out = append(out, rec)
		}
		return out, nil
	}
	var all []*snapstate.Record
	err := m.State.View(func(tx *state.Tx) (err error) {
		all, err = snapstate.All(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, rec := range all {
		if _, held := rec.HeldUntil(now); held {
			continue
		}
		if rec.Active && !rec.Current.Local() {
			if err := m.idle(rec.Name); err != nil {
				return nil, err
			}
			out = append(out, rec)
		}
	}
	return out, nil
}

// setupOffer makes the setup that brings what the store offers; rec is nil for
// an installation.
func (m *Manager) setupOffer(offer *store.Snap, rec *snapstate.Record, c store.Channel, o StoreOptions) (*snapstate.Setup, error) {
	info, err := snap.Parse(offer.YAML)
	if err != nil {
		return nil, err
	}
	info.AddHooks(offer.Hooks...)
	s := &snapstate.Setup{
		Snap: offer.Name, Event: lifecycle.Install, To: offer.Revision, Offer: offer, Channel: c.String(),
		File: m.Installed.DownloadPath(offer.Name, offer.Revision),
	}
	flags := o.Flags
	if rec != nil {
		s.Event, s.From = lifecycle.Refresh, rec.Current
		flags.DevMode = flags.DevMode || rec.Flags.DevMode && !flags.JailMode
		flags.JailMode = flags.JailMode || rec.Flags.JailMode && !flags.DevMode
		flags.Classic = flags.Classic || rec.Flags.Classic
		old, err := m.Installed.Info(rec.Name, rec.Rev(rec.Current))
		if err != nil {
			return nil, err
		}
		if !info.Epoch.CanRead(old.Epoch) {
			return nil, fmt.Errorf("cannot refresh snap %q: its epoch %s cannot read data of epoch %s", rec.Name, info.Epoch, old.Epoch)
		}
	}
	flags.Dangerous = false
	flags.Classic = flags.Classic && info.Confinement == "classic"
	if err := m.judgeInfo(info, flags); err != nil {
		return nil, err
	}
	s.Rev = &snapstate.Revision{
		Revision: offer.Revision, YAML: string(offer.YAML), Hooks: offer.Hooks, SHA3: offer.SHA3, Size: offer.Size,
		Installed: time.Now(), Flags: flags, Channel: offer.Channel,
	}
	return s, nil
}

// judgeInfo tells why a snap cannot be used here, or not without a flag.
func (m *Manager) judgeInfo(info *snap.Info, flags snapstate.Flags) error {
	if err := info.Supported(); err != nil {
		return err
	}
	if err := wrappers.CheckBusNames(info, wrappers.Options{Dirs: m.Dirs}); err != nil {
		return err
	}
	if err := interfaces.Check(m.Plugs.Interfaces, info); err != nil {
		return err
	}
	switch {
	case !info.RunsOn(snap.HostArch()):
		return fmt.Errorf("cannot install snap %q: it is for %v, and this is %s", info.Name, info.Architectures, snap.HostArch())
	case info.Confinement == "classic" && !flags.Classic:
		return &NeedsFlagError{Snap: info.Name, Flag: "classic"}
	case info.Confinement == "devmode" && !flags.DevMode && !flags.JailMode:
		return &NeedsFlagError{Snap: info.Name, Flag: "devmode"}
	}
	return nil
}

func (m *Manager) planAll(ctx context.Context, list []*snapstate.Setup) error {
	_, err := m.plans(ctx, list)
	return err
}

// plans makes the plan of each setup.
func (m *Manager) plans(ctx context.Context, list []*snapstate.Setup) ([]*lifecycle.Plan, error) {
	var out []*lifecycle.Plan
	for _, s := range list {
		if s.From == s.To {
			out = append(out, &lifecycle.Plan{Event: s.Event, Snap: s.Snap, From: s.From, To: s.To})
			continue
		}
		p, err := m.plan(ctx, s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// startStore begins the change of an installation or a refresh.
func (m *Manager) startStore(kind, verb string, list []*snapstate.Setup, o StoreOptions, skipped []error) (string, error) {
	var rs []*recipe
	var names []string
	var checks []func(tx *state.Tx) error
	for _, s := range list {
		r, check, err := m.storeRecipe(s)
		if err != nil {
			return "", err
		}
		if o.Together {
			r.lane = 1
		}
		rs, checks, names = append(rs, r), append(checks, check), append(names, s.Snap)
	}
	again := func(tx *state.Tx) error {
		for _, check := range checks {
			if err := check(tx); err != nil {
				return err
			}
		}
		for _, err := range skipped {
			tx.Warnf("%v", err)
		}
		return nil
	}
	summary := fmt.Sprintf("%s snaps %s", verb, quoted(names))
	if len(list) == 1 {
		summary = fmt.Sprintf("%s %q snap", verb, names[0])
		if o.Channel != "" {
			summary += fmt.Sprintf(" from %q channel", list[0].Channel)
		}
	}
	return m.start(kind, summary, again, rs...)
}

// storeRecipe is the recipe of one snap, and what must still be so when the
// change is made.
func (m *Manager) storeRecipe(s *snapstate.Setup) (*recipe, func(tx *state.Tx) error, error) {
	from, to, _, err := m.Installed.Sides(s)
	if err != nil {
		return nil, nil, err
	}
	hooks := lifecycle.Hooks(s.Event, from, to)
	if s.From.Unset() {
		return forStore(s, hooks), stillSo(s), nil
	}
	if s.From == s.To {
		return forSwitchChannel(s), stillSo(s), nil
	}
	rec, err := m.Installed.Lookup(s.Snap)
	if err != nil {
		return nil, nil, err
	}
	had := rec.Rev(s.To)
	if had != nil && had.SHA3 != s.Rev.SHA3 {
		return nil, nil, fmt.Errorf("cannot refresh %q to revision %s: another file of that revision is installed; 'snap remove --revision=%s %s' takes it away", s.Snap, s.To, s.To, s.Snap)
	}
	s.Had = had != nil
	return forStore(s, hooks), stillSo(s), nil
}

// nothingToRefresh is the change of a refresh of all that are up to date.
func (m *Manager) nothingToRefresh() (string, error) {
	var id string
	err := m.update(func(tx *state.Tx) error {
		c := tx.NewChange("refresh-snap", "Refresh all snaps: no updates")
		c.SetDone()
		id = c.ID()
		return c.Set("snap-names", []string{})
	})
	return id, err
}
