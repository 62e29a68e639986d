// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
		before = append(m.readMarks(rec, rev, place), b.Before...)
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

// readMarks are for what others may only read: it was read-only before it was
// sealed, whoever has mounted it, and whenever.
func (m *Manager) readMarks(rec *snapstate.Record, rev snap.Revision, place mount.Place) []mount.Mark {
	info := m.infoOf(rec, rev)
	if m.Shared == nil || info == nil {
		return nil
	}
	var marks []mount.Mark
	_, read := m.Shared(info)
	for _, rel := range read {
		marks = append(marks, mount.Mark{Root: filepath.Join(place.Root, rel)})
	}
	return marks
}

// sharesData tells whether other snaps may write to some of a revision's data.
func (m *Manager) sharesData(info *snap.Info) bool {
	if m.Shared == nil || info == nil {
		return false
	}
	write, _ := m.Shared(info)
	return len(write) > 0
}

// closeShared has what is shown to services of other snaps from now on be
// read-only, so that what starts between the seal and the commit of a refresh is
// sealed, too. The file comes first: what is mounted before it is there is found
// here, and what is mounted afterwards finds the file.
func (m *Manager) closeShared(name string, rev snap.Revision, place mount.Place) error {
	if err := osutil.WriteFile(m.Dirs.SharedSealed(name, rev), nil, 0o600); err != nil {
		return fmt.Errorf("cannot note what is sealed: %w", err)
	}
	return mount.ReadyReadOnly(m.Dirs.AllContent(), place, true)
}

func (m *Manager) openShared(name string, rev snap.Revision, place mount.Place) error {
	if err := os.Remove(m.Dirs.SharedSealed(name, rev)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot forget what was sealed: %w", err)
	}
	return mount.ReadyReadOnly(m.Dirs.AllContent(), place, false)
}

func (m *Manager) placeOf(name string, rev snap.Revision) (mount.Place, error) {
	place, err := mount.PlaceOf(m.Dirs.Data(name, rev))
	place.Apart = m.Dirs.AllContent()
	return place, err
}
