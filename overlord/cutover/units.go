// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/wrappers"
)

// units makes the unit files those of the target, with pins for processes that
// stay from another revision, and reloads systemd once if anything changed.
// It returns the sockets and timers whose files changed.
//
// A file is renamed over and never removed and rewritten: a reload without it
// would silently drop a waiting start.
func (sw *Switch) units(ctx context.Context, c course) ([]string, error) {
	set, changed, err := sw.writeUnits(c)
	if err != nil {
		return nil, err
	}
	pinned, err := sw.pins(ctx, c)
	if err != nil {
		return nil, err
	}
	removed, err := sw.removeUnits(c, set)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(slices.Concat(changed, removed), wrappers.BusFile) {
		if err := sw.m.ReloadBus(ctx); err != nil {
			return nil, err
		}
	}
	enabled, err := sw.enablement(ctx, c, set)
	if err != nil {
		return nil, err
	}
	reload := len(changed) > 0 || pinned || len(removed) > 0 || enabled
	if !reload {
		// an earlier run may have died between writing and reloading
		if reload, err = sw.stale(ctx, c); err != nil {
			return nil, err
		}
	}
	if reload {
		if err := sw.m.Systemd.Reload(ctx); err != nil {
			return nil, fmt.Errorf("cannot make systemd read the units of snap %q: %w", sw.setup.Snap, err)
		}
	}
	if err := sw.resetRemoved(ctx, c, set); err != nil {
		return nil, err
	}
	return changedActivators(set, changed), nil
}

// ReloadBus makes the system bus read what it is configured by. It notices most
// changes by itself, but only after a while, and a new directory never.
func (m *Manager) ReloadBus(ctx context.Context) error {
	const bus = "dbus.service" // also another implementation's
	sts, err := m.Systemd.Status(ctx, bus)
	if err != nil || sts[0].ActiveState != "active" {
		return err
	}
	if err := m.Systemd.Run(ctx, "reload", bus, "replace"); err != nil {
		return fmt.Errorf("cannot make the system bus read its configuration: %w", err)
	}
	return nil
}

// stage writes what the target's files will hold beside their places, while
// nothing is held up or stopped yet: on a full disk the switch ends here, and
// what waits for the disk later is not much.
func (sw *Switch) stage(c course) error {
	if c.target == nil || !c.forward {
		return nil
	}
	set, err := sw.unitSet(c)
	if err != nil {
		return err
	}
	links := wrappers.CurrentLinks(c.target.Name, c.target.Revision)
	return wrappers.Stage(slices.Concat(set.Files, wrappers.Launchers(c.target, sw.m.Wrap), links), sw.m.Wrap)
}

// unstage removes what is kept of the other side's files. It is kept for the
// way back, from a later task too where a new revision comes: then the task that
// discards does this.
func (sw *Switch) unstage(c course) error {
	if c.forward && sw.setup.Brings() {
		return nil
	}
	return wrappers.Tidy(sw.m.Wrap, c.target, c.other)
}

// unitSet is what the target's units are to be, nothing for a target of nil.
func (sw *Switch) unitSet(c course) (wrappers.Set, error) {
	if c.target == nil {
		return wrappers.Set{}, nil
	}
	set, err := wrappers.Units(c.target, sw.m.Wrap)
	if err == nil && c.forward { // the way back is never barred
		err = wrappers.CheckBusNames(c.target, sw.m.Wrap)
	}
	if err == nil {
		err = sw.offBus(c.target, &set)
	}
	return set, err
}

func (sw *Switch) writeUnits(c course) (wrappers.Set, []string, error) {
	set, err := sw.unitSet(c)
	if err != nil || c.target == nil {
		return set, nil, err
	}
	if err := wrappers.EnsurePrivateTmp(c.target, sw.m.Wrap); err != nil {
		return set, nil, err
	}
	changed, err := wrappers.Swap(set.Files, sw.m.Wrap)
	return set, changed, err
}

// offBus leaves out what would make the bus start a service again from which
// the operator's stop has taken it.
func (sw *Switch) offBus(info *snap.Info, set *wrappers.Set) error {
	for _, a := range info.Services() {
		if !sw.heldBack(a.Name) {
			continue
		}
		files, err := wrappers.BusServices(a)
		if err != nil {
			return err
		}
		for _, f := range files {
			if _, err := os.Lstat(sw.m.Dirs.Under(f.Path)); errors.Is(err, fs.ErrNotExist) {
				set.Files = slices.DeleteFunc(set.Files, func(g wrappers.File) bool { return g.Path == f.Path })
			}
		}
	}
	return nil
}

func changedActivators(set wrappers.Set, changed []string) []string {
	var out []string
	for app := range set.Services {
		for _, s := range set.Activators(app) {
			for _, p := range changed {
				if filepath.Base(p) == s {
					out = append(out, s)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// pins writes a drop-in for every service whose process stays from another
// revision than the target, and removes the drop-ins that no process needs.
func (sw *Switch) pins(ctx context.Context, c course) (changed bool, err error) {
	want := map[string][]byte{}
	for _, s := range sw.steps() {
		if pin, err := sw.signalPin(s, c); err != nil {
			return false, err
		} else if pin != nil {
			want[s.Unit] = pin
			continue
		}
		stays := s.Action == lifecycle.Keep || s.Action == lifecycle.Signal
		app := service(c.target, s.App)
		if !stays || app == nil || c.wish[s.App] == up { // a stray gets restarted
			continue
		}
		// a boot or a crash may have put another process in the place of the plan's
		sts, err := sw.m.Systemd.Status(ctx, app.Unit())
		if err != nil {
			return false, err
		}
		if !snapstate.UnitRuns(sts[0]) {
			continue
		}
		rev := sw.m.Snaps.RevisionOf(sw.record, s.App, sts[0])
		started := sw.others[rev]
		if rev == c.target.Revision || service(started, s.App) == nil {
			continue
		}
		data, _, err := wrappers.Pin(started, c.target, s.App, sw.m.Wrap)
		if err != nil {
			return false, err
		}
		want[app.Unit()] = data
	}
	for _, u := range allServices(c.target, c.other) {
		ch, err := sw.m.setPin(u, want[u])
		if err != nil {
			return false, err
		}
		changed = changed || ch
	}
	return changed, nil
}

func (m *Manager) setPin(unit string, data []byte) (changed bool, err error) {
	path := wrappers.PinPath(m.Dirs, unit)
	if data == nil {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		os.Remove(filepath.Dir(path)) // only when empty: an operator's drop-ins stay
		return true, err
	}
	if old, err := os.ReadFile(path); err == nil && slices.Equal(old, data) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("cannot pin %s: %w", unit, err)
	}
	if err := osutil.WriteFile(path, data, 0o644); err != nil {
		return false, fmt.Errorf("cannot pin %s: %w", unit, err)
	}
	return true, nil
}

func allServices(infos ...*snap.Info) []string {
	var out []string
	for _, i := range infos {
		if i == nil {
			continue
		}
		for _, a := range i.Services() {
			if !slices.Contains(out, a.Unit()) {
				out = append(out, a.Unit())
			}
		}
	}
	return out
}

// removeUnits removes the files of units that the target lacks, and returns
// their paths. Their services have been stopped.
func (sw *Switch) removeUnits(c course, target wrappers.Set) (removed []string, err error) {
	if c.other == nil {
		return nil, nil
	}
	set, err := wrappers.Units(c.other, sw.m.Wrap)
	if err != nil {
		return nil, err
	}
	kept := func(f wrappers.File) bool {
		return slices.ContainsFunc(target.Files, func(t wrappers.File) bool { return t.Path == f.Path })
	}
	if removed, err = wrappers.Withdraw(slices.DeleteFunc(set.Files, kept), sw.m.Wrap); err != nil {
		return nil, err
	}
	return removed, wrappers.SweepContent(sw.m.Wrap)
}

// resetRemoved makes systemd forget a failure of what has no unit file any more:
// it would be listed as "not-found failed" until somebody asks for that.
func (sw *Switch) resetRemoved(ctx context.Context, c course, target wrappers.Set) error {
	if c.other == nil {
		return nil
	}
	for _, a := range c.other.Services() {
		if target.Services[a.Name] != "" {
			continue
		}
		for _, u := range append(snapstate.ActivatorUnits(a), a.Unit()) {
			if err := sw.m.Systemd.ResetFailed(ctx, u); err != nil {
				return err
			}
		}
	}
	return nil
}

// enablement enables what is new and disables what goes. What is in both sides
// stays as the operator left it.
func (sw *Switch) enablement(ctx context.Context, c course, target wrappers.Set) (bool, error) {
	var on, off []string
	for _, app := range c.enable {
		on = append(on, target.Enable[app]...)
	}
	if c.other != nil {
		set, err := wrappers.Units(c.other, sw.m.Wrap)
		if err != nil {
			return false, err
		}
		for app, units := range set.Enable {
			for _, u := range units {
				if !slices.Contains(target.Enable[app], u) || slices.Contains(c.disable, app) {
					off = append(off, u)
				}
			}
		}
	}
	slices.Sort(on)
	slices.Sort(off)
	changed := false
	if len(off) > 0 {
		ch, err := sw.m.Systemd.Disable(ctx, off...)
		if err != nil {
			return false, fmt.Errorf("cannot disable services of snap %q: %w", sw.setup.Snap, err)
		}
		changed = ch
	}
	if len(on) > 0 {
		ch, err := sw.m.Systemd.Enable(ctx, on...)
		if err != nil {
			return false, fmt.Errorf("cannot enable services of snap %q: %w", sw.setup.Snap, err)
		}
		changed = changed || ch
	}
	return changed, nil
}

func (sw *Switch) stale(ctx context.Context, c course) (bool, error) {
	sts, err := sw.m.Systemd.Status(ctx, allUnits(c.target, c.other)...)
	if err != nil {
		return false, err
	}
	for _, st := range sts {
		if st.NeedDaemonReload {
			return true, nil
		}
	}
	return false, nil
}

// launchers makes /snap/bin what the target wants.
func (sw *Switch) launchers(c course) error {
	var want []wrappers.File
	if c.target != nil {
		want = wrappers.Launchers(c.target, sw.m.Wrap)
		if _, err := wrappers.Swap(want, sw.m.Wrap); err != nil {
			return err
		}
	}
	if c.other == nil {
		return nil
	}
	wanted := func(f wrappers.File) bool {
		return slices.ContainsFunc(want, func(w wrappers.File) bool { return w.Path == f.Path })
	}
	_, err := wrappers.Withdraw(slices.DeleteFunc(wrappers.Launchers(c.other, sw.m.Wrap), wanted), sw.m.Wrap)
	return err
}
