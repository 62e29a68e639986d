// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
)

// Views lists the services of the named snaps or services ("snap",
// "snap.app"), or of all active snaps.
func (m *Manager) Views(ctx context.Context, names []string) ([]View, error) {
	var recs []*snapstate.Record
	err := m.State.View(func(tx *state.Tx) (err error) {
		recs, err = snapstate.All(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := known(recs, names); err != nil {
		return nil, err
	}
	scopes, err := m.Systemd.ListUnits(ctx, "snap.*-r*.scope")
	if err != nil {
		return nil, err
	}
	var apps []listedApp
	var units []string
	for _, rec := range recs {
		if !askedOf(names, rec.Name) {
			continue
		}
		info, err := m.Snaps.Info(rec.Name, rec.Rev(rec.Current))
		if err != nil {
			m.Log.Warn("leaving out the services of a snap", "snap", rec.Name, "err", err)
			continue
		}
		// most snaps have none left: PID 1 is asked once for all of them
		var left map[string][]lifecycle.Generation
		if slices.ContainsFunc(scopes, func(st systemd.UnitStatus) bool { return strings.HasPrefix(st.Name, "snap."+rec.Name+".") }) {
			if left, err = m.Snaps.Generations(ctx, rec); err != nil {
				return nil, err
			}
		}
		for _, a := range info.SortedApps() {
			if !a.IsService() || !asked(names, rec.Name, a.Name) {
				continue
			}
			l := listedApp{rec: rec, app: a, left: left[a.Name]}
			if rec.Active {
				l.units = append([]string{a.Unit()}, snapstate.ActivatorUnits(a)...)
				units = append(units, l.units...)
			}
			apps = append(apps, l)
		}
	}
	sts, err := m.Systemd.Glance(ctx, units...)
	if err != nil {
		return nil, fmt.Errorf("cannot see the services of snaps: %w", err)
	}
	enabled, err := systemd.Enabled(m.Dirs.Under("/"))
	if err != nil {
		return nil, err
	}
	out := make([]View, 0, len(apps))
	for _, l := range apps {
		v := m.view(l, sts[:len(l.units)], enabled)
		sts = sts[len(l.units):]
		if len(names) > 0 {
			v.SealLimits = m.sealLimits(l.rec, l.app.Snap, l.app.Name)
		}
		out = append(out, v)
	}
	return out, listed(out, names)
}

// listedApp is a service that is to be listed.
type listedApp struct {
	rec   *snapstate.Record
	app   *snap.App
	units []string // its own and its activators', none of a snap that is not active
	left  []lifecycle.Generation
}

// listed refuses names of services that their snaps do not have.
func listed(views []View, names []string) error {
	for _, n := range names {
		name, app, one := strings.Cut(n, ".")
		if one && !slices.ContainsFunc(views, func(v View) bool { return v.Snap == name && v.App == app }) {
			return &snapstate.AppNotFoundError{Snap: name, App: app}
		}
	}
	return nil
}

// askedOf tells whether any service of a snap is asked for.
func askedOf(names []string, snapName string) bool {
	return len(names) == 0 || slices.ContainsFunc(names, func(n string) bool {
		name, _, _ := strings.Cut(n, ".")
		return name == snapName
	})
}

func asked(names []string, snapName, app string) bool {
	if len(names) == 0 {
		return true
	}
	for _, n := range names {
		if n == snapName || n == snapName+"."+app {
			return true
		}
	}
	return false
}

func known(recs []*snapstate.Record, names []string) error {
	for _, n := range names {
		name, _, _ := strings.Cut(n, ".")
		found := false
		for _, r := range recs {
			found = found || r.Name == name
		}
		if !found {
			return &snapstate.NotInstalledError{Snap: name}
		}
	}
	return nil
}

// generation is one with what its data is sealed.
func generation(rec *snapstate.Record, g lifecycle.Generation) Generation {
	out := Generation{Generation: g}
	if seal := rec.Seal(g.Revision); seal != nil && g.Revision != rec.Current {
		out.Seal, out.SealWhy = seal.Of(g.Unit)
	}
	return out
}

// sealLimits says why the data of a service, or of an app, can be sealed only
// partly, or not.
func (m *Manager) sealLimits(rec *snapstate.Record, info *snap.Info, app string) []string {
	e := rec.Rev(info.Revision)
	switch {
	case info.Confinement == "classic":
		return []string{lifecycle.ClassicSeal}
	case e != nil && !e.Flags.JailMode && (e.Flags.DevMode || info.Confinement == "devmode"):
		return append([]string{lifecycle.DevModeSeal}, m.Unsealable(info, app)...)
	}
	return m.Unsealable(info, app)
}

// view describes a service. sts are of its units.
func (m *Manager) view(l listedApp, sts []systemd.UnitStatus, enabled map[string]bool) View {
	rec, a := l.rec, l.app
	v := View{Snap: rec.Name, App: a.Name, Daemon: a.Daemon, Mode: lifecycle.Mode(a), Current: rec.Current}
	for _, g := range l.left {
		v.Generations = append(v.Generations, generation(rec, g))
	}
	if len(sts) == 0 {
		return v
	}
	st := sts[0]
	v.Active = st.ActiveState == "active" || st.ActiveState == "reloading"
	v.Enabled = enabled[st.Name]
	v.MainPID = st.MainPID
	if snapstate.UnitRuns(st) {
		v.Revision = m.Snaps.RevisionOf(rec, a.Name, st)
		if seal := rec.Seal(v.Revision); seal != nil && v.Revision != rec.Current {
			v.Seal, v.SealWhy = seal.Of(st.Name)
		}
	}
	activator := func(name, kind string, act systemd.UnitStatus) {
		on := enabled[act.Name]
		v.Enabled = v.Enabled || on
		v.Activators = append(v.Activators, Activator{Name: name, Type: kind, Enabled: on, Active: act.ActiveState == "active"})
	}
	for i, s := range a.Sockets {
		activator(s.Name, "socket", sts[1+i])
	}
	for _, name := range a.ActivationNames {
		v.Enabled = v.Enabled || len(sts) == 1
		v.Activators = append(v.Activators, Activator{Name: name, Type: "dbus", Enabled: true, Active: m.onTheBus(a)})
	}
	if a.Timer != "" {
		activator(a.Name, "timer", sts[len(sts)-1])
	}
	return v
}
