// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"endured/snap"
	"endured/wrappers"
)

// onBus has calls on the system bus start the service.
func (m *Manager) onBus(ctx context.Context, a *snap.App) error {
	files, err := wrappers.BusServices(a)
	if err != nil {
		return err
	}
	changed, err := wrappers.Write(files, m.Wrap)
	if err != nil || len(changed) == 0 {
		return err
	}
	return m.Bus.ReloadBus(ctx)
}

// offBus takes that away from a service that is to stay stopped: the next call
// would start it. Callers are told at once that nobody has the name.
func (m *Manager) offBus(ctx context.Context, a *snap.App) error {
	files, err := wrappers.BusServices(a)
	if err != nil {
		return err
	}
	changed := false
	for _, f := range files {
		err := os.Remove(m.Dirs.Under(f.Path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot keep the bus from starting %s: %w", a.Unit(), err)
		}
		changed = changed || err == nil
	}
	if !changed {
		return nil
	}
	return m.Bus.ReloadBus(ctx)
}

// onTheBus tells whether a call on one of the service's names starts it.
func (m *Manager) onTheBus(a *snap.App) bool {
	files, err := wrappers.BusServices(a)
	if err != nil || len(files) == 0 {
		return false
	}
	_, err = os.Lstat(m.Dirs.Under(files[0].Path))
	return err == nil
}
