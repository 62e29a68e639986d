// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"endured/overlord/configstate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// isSystem tells whether a name means the system's own settings.
func isSystem(name string) bool { return name == "system" || name == "core" }

// notConfigurable says why a snap's own options can be neither read nor set.
func (m *Manager) notConfigurable(verb, name string) error {
	if _, err := m.Installed.Lookup(name); err != nil {
		return err
	}
	return fmt.Errorf("cannot %s options of snap %q: configure hooks are not supported yet; 'system' has options", verb, name)
}

// Configuration returns what is set under dotted keys, by key, or everything.
func (m *Manager) Configuration(name string, keys []string) (map[string]any, error) {
	if !isSystem(name) {
		return nil, m.notConfigurable("get", name)
	}
	return configstate.Get(m.State, name, keys)
}

// Configure sets values by dotted key; nil unsets. A new bound on stops is not
// set while a change goes on, whose plan has the one before.
func (m *Manager) Configure(_ context.Context, name string, values map[string]any) (string, error) {
	if !isSystem(name) {
		return "", m.notConfigurable("set", name)
	}
	p, err := configstate.MakePatch(values)
	if err != nil {
		return "", err
	}
	if err := m.haveServices(p); err != nil {
		return "", err
	}
	var id string
	err = m.State.Update(func(tx *state.Tx) error {
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
