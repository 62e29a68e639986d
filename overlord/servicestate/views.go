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
	var out []View
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
			v, err := m.view(ctx, rec, a)
			if err != nil {
				return nil, err
			}
			v.Generations = left[a.Name]
			out = append(out, v)
		}
	}
	return out, listed(out, names)
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

func (m *Manager) view(ctx context.Context, rec *snapstate.Record, a *snap.App) (View, error) {
	v := View{Snap: rec.Name, App: a.Name, Daemon: a.Daemon, Mode: lifecycle.Mode(a), Current: rec.Current}
	if !rec.Active {
		return v, nil
	}
	units := append([]string{a.Unit()}, snapstate.ActivatorUnits(a)...)
	sts, err := m.Systemd.Glance(ctx, units...)
	if err != nil {
		return v, fmt.Errorf("cannot see the services of snap %q: %w", rec.Name, err)
	}
	st := sts[0]
	v.Active = st.ActiveState == "active" || st.ActiveState == "reloading"
	v.Enabled = st.UnitFileState == "enabled"
	v.MainPID = st.MainPID
	if snapstate.UnitRuns(st) {
		v.Revision = m.Snaps.RevisionOf(rec, a.Name, st)
		if seal := rec.Seal(v.Revision); seal != nil && v.Revision != rec.Current {
			v.Seal, v.SealWhy = seal.State, seal.Why
		}
	}
	for i, s := range a.Sockets {
		act := sts[1+i]
		enabled := act.UnitFileState == "enabled"
		v.Enabled = v.Enabled || enabled
		v.Activators = append(v.Activators, Activator{Name: s.Name, Type: "socket", Enabled: enabled, Active: act.ActiveState == "active"})
	}
	for _, name := range a.ActivationNames {
		v.Enabled = v.Enabled || len(units) == 1
		v.Activators = append(v.Activators, Activator{Name: name, Type: "dbus", Enabled: true, Active: m.onTheBus(a)})
	}
	if a.Timer != "" {
		act := sts[len(sts)-1]
		enabled := act.UnitFileState == "enabled"
		v.Enabled = v.Enabled || enabled
		v.Activators = append(v.Activators, Activator{Name: a.Name, Type: "timer", Enabled: enabled, Active: act.ActiveState == "active"})
	}
	return v, nil
}
