// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"fmt"
	"time"
)

// WaitUnit waits until ok says so of the unit's status, which is read again
// whenever systemd tells of a change. The error is that of ctx (wrapped),
// ErrClosed or *Error; the last status read comes with it.
func (m *Manager) WaitUnit(ctx context.Context, unit string, ok func(UnitStatus) bool) (UnitStatus, error) {
	w := m.Watch(unit)
	defer w.Close()
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		st, err := m.status(ctx, unit)
		if err != nil {
			return st, fmt.Errorf("cannot wait for %s: %w", unit, err)
		}
		if ok(st) {
			return st, nil
		}
		select {
		case <-w.c:
		case <-tick.C:
		case <-ctx.Done():
			return st, fmt.Errorf("cannot wait for %s (%s, %s): %w", unit, st.ActiveState, st.SubState, context.Cause(ctx))
		}
	}
}
