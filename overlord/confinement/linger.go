// SPDX-License-Identifier: Apache-2.0

package confinement

import (
	"context"
	"errors"
	"time"

	"endured/interfaces/apparmor"
	"endured/osutil"
)

// again is the pause before a second look at profiles that processes carry: not
// every one of them may have been known.
const again = time.Second

// linger takes profiles away that had to stay, as soon as the processes that
// carry them have ended. It returns when ctx is done.
func (m *Manager) linger(ctx context.Context) {
	awaited := map[apparmor.Key]bool{}
	gone := make(chan apparmor.Key)
	for {
		select {
		case <-ctx.Done():
			return
		case key := <-gone:
			delete(awaited, key)
		case <-m.Profiles.Lingers():
		}
		for _, l := range m.Profiles.Lingering() {
			if awaited[l.Key] {
				continue
			}
			awaited[l.Key] = true
			m.all.Go(func() {
				m.outlive(ctx, l)
				select {
				case gone <- l.Key:
				case <-ctx.Done():
				}
			})
		}
	}
}

// outlive waits for the end of processes and unloads what they carried.
func (m *Manager) outlive(ctx context.Context, l apparmor.Lingering) {
	for {
		if err := osutil.WaitPIDs(ctx, l.PIDs); err != nil {
			if ctx.Err() == nil {
				m.Log.Warn("cannot wait for processes that carry AppArmor profiles", "snap", l.Snap, "revision", l.Revision, "err", err)
			}
			return
		}
		err := m.Profiles.UnloadLingering(l.Snap, l.Revision)
		var used *apparmor.InUseError
		if !errors.As(err, &used) {
			if err != nil {
				m.Log.Warn("cannot unload AppArmor profiles", "snap", l.Snap, "revision", l.Revision, "err", err)
			}
			return
		}
		l.PIDs = used.PIDs
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}
