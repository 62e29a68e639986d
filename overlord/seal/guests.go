// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"

	"endured/interfaces/mount"
	"endured/osutil"
	"endured/overlord/snapstate"
	"endured/snap"
)

// guests lists the processes of other snaps that have some of the data mounted,
// as content: a refresh of this snap leaves them as they are. Writers are those
// that can write there, or could before it was sealed.
func (m *Manager) guests(ctx context.Context, rec *snapstate.Record, rev snap.Revision, place mount.Place) (writers, readers []snapstate.Process, err error) {
	var before []mount.Mark
	b, err := m.readBook(rec.Name, rev)
	if err != nil {
		return nil, nil, err
	}
	if b != nil {
		before = b.Before
	}
	others, err := m.Snaps.Others(ctx, rec)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range others {
		mounts, err := osutil.Mounts(p.PID)
		if err != nil {
			continue // gone
		}
		switch has, writes := place.In(mounts, b != nil && b.Noted, before); {
		case writes:
			writers = append(writers, p)
		case has:
			readers = append(readers, p)
		}
	}
	return writers, readers, nil
}
