// SPDX-License-Identifier: Apache-2.0

// Package confinement decides how the programs of each revision are confined,
// from what the snap asks for, how it was installed and what its interfaces
// add. It offers the task that puts a revision's profiles into the kernel
// before anything runs from it, and tells wrappers what their units need.
package confinement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"endured/interfaces"
	"endured/interfaces/apparmor"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/wrappers"
)

// Specs knows what is connected.
type Specs interface {
	// SpecFor is asked for an app, or for "hook.NAME".
	SpecFor(info *snap.Info, appOrHook string) (*interfaces.Spec, error)
	// UpdatePeers gives the snaps that are connected with the task's what its
	// current revision offers.
	UpdatePeers(ctx context.Context, t *state.Task) error
}

// Profiles keeps AppArmor profiles; see apparmor.Store.
type Profiles interface {
	Enforced() bool
	WhyNot() error
	Labels() bool
	Set(name string, rev snap.Revision) (*apparmor.Set, error)
	Load(ctx context.Context, sets ...*apparmor.Set) (apparmor.Cost, error)
	Setup(ctx context.Context, set *apparmor.Set, left ...apparmor.Left) (apparmor.Cost, error)
	Unload(ctx context.Context, name string, rev snap.Revision) error
	Restore(ctx context.Context) error
	Mark() error
	Clean(installed func(name string, rev snap.Revision) bool) error
	Prune(busy func(name string) bool) error
	Lingers() <-chan struct{}
	Lingering() []apparmor.Lingering
	UnloadLingering(name string, rev snap.Revision) error
}

// Config is what a Manager is made of.
type Config struct {
	State    *state.State
	Snaps    *snapstate.Manager
	Profiles Profiles
	Specs    Specs // nil: nothing is connected
	Log      *slog.Logger
}

// Manager confines snaps. It is a wrappers.Confiner.
type Manager struct {
	Config

	end context.CancelFunc
	all sync.WaitGroup
}

// New makes a Manager and registers its task with the runner.
func New(c Config, run *state.Runner) *Manager {
	m := &Manager{Config: c, end: func() {}}
	run.AddHandler("setup-profiles", m.doSetup, m.undoSetup)
	return m
}

// modeOf is how a revision that was installed with these flags is confined.
func modeOf(info *snap.Info, flags snapstate.Flags) apparmor.Mode {
	switch {
	case info.Confinement == "classic":
		return apparmor.Unconfined
	case flags.JailMode:
		return apparmor.Enforce
	case flags.DevMode || info.Confinement == "devmode":
		return apparmor.Complain
	}
	return apparmor.Enforce
}

// spec returns what interfaces add, which may be nothing.
func (m *Manager) spec(info *snap.Info, appOrHook string) (*interfaces.Spec, error) {
	if m.Specs == nil {
		return &interfaces.Spec{}, nil
	}
	s, err := m.Specs.SpecFor(info, appOrHook)
	if err != nil || s == nil {
		return &interfaces.Spec{}, err
	}
	return s, nil
}

// Confinement implements wrappers.Confiner.
func (m *Manager) Confinement(info *snap.Info, appOrHook string) (wrappers.Confinement, error) {
	flags, err := m.Snaps.FlagsOf(info.Name, info.Revision)
	if err != nil {
		return wrappers.Confinement{}, err
	}
	spec, err := m.spec(info, appOrHook)
	if err != nil {
		return wrappers.Confinement{}, err
	}
	mode := modeOf(info, flags)
	out := wrappers.Confinement{
		Strict: mode == apparmor.Enforce, NoNewPrivileges: !m.Profiles.Enforced(),
		Capabilities: append(apparmor.DefaultCapabilities(), spec.Capabilities...),
		Syscalls:     spec.Seccomp, Delegate: spec.Delegate, Directives: spec.Unit,
		Run: runPaths(spec.AppArmor),
	}
	if a := info.Apps[appOrHook]; a != nil && len(a.BusNames) > 0 {
		out.Run = append(out.Run, "/run/dbus")
	}
	if m.Profiles.Labels() {
		out.Profile = apparmor.Label(info.Name, appOrHook, info.Revision)
	}
	if mode != apparmor.Unconfined { // a classic snap sees the host's mounts
		for _, b := range spec.Mounts {
			out.Binds = append(out.Binds, wrappers.Bind(b))
		}
	}
	return out, nil
}

// set makes the description of a revision's profiles.
func (m *Manager) set(info *snap.Info) (*apparmor.Set, error) {
	flags, err := m.Snaps.FlagsOf(info.Name, info.Revision)
	if err != nil {
		return nil, err
	}
	out := &apparmor.Set{Snap: info.Name, Revision: info.Revision, Mode: modeOf(info, flags)}
	add := func(p apparmor.Profile) error {
		spec, err := m.spec(info, p.Name())
		if err != nil {
			return err
		}
		if out.Mode != apparmor.Unconfined {
			p.Rules, p.Capabilities = spec.AppArmor, spec.Capabilities
		}
		out.Profiles = append(out.Profiles, p)
		return nil
	}
	for _, a := range info.SortedApps() {
		if err := add(apparmor.Profile{App: a.Name, Service: a.IsService()}); err != nil {
			return nil, err
		}
	}
	for _, h := range info.SortedHooks() {
		if err := add(apparmor.Profile{Hook: h.Name}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Update makes the profiles of every installed revision of a snap what its
// connections are now, all or none. What is sealed stays sealed.
func (m *Manager) Update(ctx context.Context, name string) (apparmor.Cost, error) {
	rec, err := m.Snaps.Lookup(name)
	if err != nil {
		return apparmor.Cost{}, err
	}
	return m.update(ctx, name, rec.Sequence)
}

func (m *Manager) update(ctx context.Context, name string, revs []snapstate.Revision) (apparmor.Cost, error) {
	var sets []*apparmor.Set
	for i := range revs {
		info, err := m.Snaps.Info(name, &revs[i])
		if err != nil {
			return apparmor.Cost{}, err
		}
		set, err := m.set(info)
		if err != nil {
			return apparmor.Cost{}, err
		}
		have, err := m.Profiles.Set(name, info.Revision)
		if err != nil {
			return apparmor.Cost{}, err
		}
		if have != nil {
			set.Seal = have.Seal
		}
		sets = append(sets, set)
	}
	return m.Profiles.Load(ctx, sets...)
}

// Start puts the profiles in order that an earlier daemon left: those of
// installed revisions are loaded, others go when no process carries them any
// more. It is called before changes go on.
func (m *Manager) Start(ctx context.Context) error {
	lctx, end := context.WithCancel(context.WithoutCancel(ctx))
	m.end = end
	m.all.Go(func() { m.linger(lctx) })
	errs := []error{m.Profiles.Mark(), m.Profiles.Restore(ctx)}
	var recs []*snapstate.Record
	var busy []string
	err := m.State.View(func(tx *state.Tx) (err error) {
		recs, err = snapstate.All(tx)
		busy = snapstate.Busy(tx)
		return err
	})
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, r := range recs {
		for i := range r.Sequence {
			if have, err := m.Profiles.Set(r.Name, r.Sequence[i].Revision); err != nil || have == nil {
				_, failed := m.update(ctx, r.Name, r.Sequence[i:i+1])
				errs = append(errs, err, failed)
			}
		}
	}
	errs = append(errs, m.Profiles.Clean(func(name string, rev snap.Revision) bool {
		arriving := m.Snaps.Arriving(name, rev)
		return arriving || slices.ContainsFunc(recs, func(r *snapstate.Record) bool { return r.Name == name && r.Rev(rev) != nil })
	}))
	errs = append(errs, m.Profiles.Prune(func(name string) bool { return slices.Contains(busy, name) }))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot put AppArmor profiles in order: %w", err)
	}
	return nil
}

// Stop ends what Start began.
func (m *Manager) Stop() {
	m.end()
	m.all.Wait()
}

// Enforced tells whether the kernel enforces profiles here.
func (m *Manager) Enforced() bool { return m.Profiles.Enforced() }

// Confined tells whether a process of a snap is confined strictly. In doubt it is.
// label is what the process carries, "" for nothing that is known.
func (m *Manager) Confined(name, label string) (bool, error) {
	labelled, _, rev, ok := apparmor.ParseLabel(label)
	if !ok {
		rec, err := m.Snaps.Lookup(name)
		var none *snapstate.NotInstalledError
		if errors.As(err, &none) {
			return true, nil // of a snap that is being installed, or went
		}
		if err != nil {
			return true, err
		}
		labelled, rev = name, rec.Current
	}
	set, err := m.Profiles.Set(labelled, rev)
	return err != nil || set == nil || set.Mode == apparmor.Enforce, err
}
