// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"endured/overlord/configstate"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// isSystem tells whether a name means the system's own settings.
func isSystem(name string) bool { return name == "system" || name == "core" }

// Configuration returns what is set under dotted keys, by key, or everything.
func (m *Manager) Configuration(name string, keys []string) (map[string]any, error) {
	if isSystem(name) {
		return configstate.Get(m.State, name, keys)
	}
	rec, err := m.Installed.Lookup(name)
	if err != nil {
		return nil, err
	}
	o, err := configstate.ReadOptions(rec.Config)
	if err != nil {
		return nil, fmt.Errorf("cannot read options of snap %q: %w", name, err)
	}
	return o.Select(name, keys)
}

// Configure sets values by dotted key; nil unsets. A snap's own are set by its
// configure hook's leave. A new bound on stops is not set while a change goes
// on, whose plan has the one before.
func (m *Manager) Configure(_ context.Context, name string, values map[string]any) (string, error) {
	if !isSystem(name) {
		return m.configureSnap(name, values)
	}
	p, err := configstate.MakePatch(values)
	if err != nil {
		return "", err
	}
	if err := m.haveServices(p); err != nil {
		return "", err
	}
	var id string
	err = m.update(func(tx *state.Tx) error {
		c := tx.NewChange("configure-snap", fmt.Sprintf("Change system settings %s", strings.Join(p.Keys(), ", ")))
		t := tx.NewTask("configure-system", fmt.Sprintf("Change system settings %s", strings.Join(p.Keys(), ", ")))
		if err := configstate.SetPatch(t, p); err != nil {
			return err
		}
		if p.Bounds() {
			if err := holdSnaps(tx, c); err != nil {
				return err
			}
		}
		c.AddTask(t)
		id = c.ID()
		return names(c, name)
	})
	if err != nil {
		return "", err
	}
	m.Runner.Ensure()
	return id, nil
}

// configureSnap runs the configure hook of a snap with options to set.
func (m *Manager) configureSnap(name string, values map[string]any) (string, error) {
	rec, err := m.active("configure", name)
	if err != nil {
		return "", err
	}
	info, err := m.Installed.Info(name, rec.Rev(rec.Current))
	if err != nil {
		return "", err
	}
	hooks := lifecycle.Hooks(lifecycle.Configure, info, info)
	if len(hooks) == 0 {
		return "", fmt.Errorf("cannot set options: snap %q has no \"configure\" hook", name)
	}
	o, err := configstate.ReadOptions(rec.Config)
	if err == nil {
		o, err = o.Apply(name, values)
	}
	if err == nil {
		_, err = o.Raw()
	}
	if err != nil {
		return "", err
	}
	r := &recipe{setup: &snapstate.Setup{Snap: name, Event: lifecycle.Configure, From: rec.Current, To: rec.Current}}
	r.hooks(hooks, lifecycle.After)
	r.steps[0].values = values
	return m.start("configure-snap", fmt.Sprintf("Change configuration of %q snap", name), unchanged(name, rec.Current, true), r)
}

// holdSnaps keeps other changes from any snap while this one is not ready.
func holdSnaps(tx *state.Tx, c *state.Change) error {
	if err := snapstate.CheckConflict(tx, c.ID(), snapstate.Busy(tx)...); err != nil {
		return err
	}
	recs, err := snapstate.All(tx)
	if err != nil {
		return err
	}
	for _, r := range recs {
		s := &snapstate.Setup{Snap: r.Name, From: r.Current, To: r.Current}
		if err := snapstate.SetSetup(c, s); err != nil {
			return err
		}
	}
	return nil
}

// haveServices refuses a refresh-mode for a service that an installed snap does
// not have. Of a snap that is not installed nothing is known.
func (m *Manager) haveServices(p *configstate.Patch) error {
	for _, s := range p.Services() {
		rec, err := m.Installed.Lookup(s.Snap)
		var missing *snapstate.NotInstalledError
		if errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return err
		}
		found := false
		for n := range rec.Sequence {
			info, err := m.Installed.Info(rec.Name, &rec.Sequence[n])
			if err != nil {
				return err
			}
			if a := info.Apps[s.App]; a != nil && a.IsService() {
				found = true
			}
		}
		if !found {
			return fmt.Errorf("cannot set %q: snap %q has no service %q", s.Key, s.Snap, s.App)
		}
	}
	return nil
}
