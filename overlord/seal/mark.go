// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"

	"endured/osutil/treecopy"
	"endured/overlord/snapstate"
)

// A mark notes which files are flagged before they are: all of that or nothing.
// It is durable when a flag is: both go to the same file system's journal, in
// order. What an earlier run noted, when it could tell, stays.

// markOpen notes that some files are flagged.
func (r *run) markOpen(files []*file) error {
	path := r.Dirs.FlagMark(r.Record.Name, r.Revision)
	m, err := snapstate.ReadFlagMark(path)
	if err != nil || m != nil && m.Ours == nil {
		return err
	}
	if m == nil {
		m = &snapstate.FlagMark{Ours: map[uint64]treecopy.Flags{}}
	}
	known := len(m.Ours)
	for _, f := range files {
		if _, noted := m.Ours[f.stat.Ino]; !noted {
			m.Ours[f.stat.Ino] = f.before()
		}
	}
	if len(m.Ours) == known {
		return nil
	}
	return r.writeMark(m, path)
}

// markAll notes that every file may be flagged.
func (r *run) markAll(ctx context.Context) error {
	path := r.Dirs.FlagMark(r.Record.Name, r.Revision)
	was, err := snapstate.ReadFlagMark(path)
	if err != nil || was != nil && was.Ours == nil {
		return err
	}
	if was == nil {
		was = &snapstate.FlagMark{Ours: map[uint64]treecopy.Flags{}}
	}
	m := &snapstate.FlagMark{Kept: map[string]treecopy.Flags{}}
	err = treecopy.Walk(ctx, r.dir, func(e *treecopy.Entry) error {
		if had := was.Before(e); had != treecopy.NoFlags {
			m.Kept["/"+e.Path()] = had
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.writeMark(m, path)
}

func (r *run) writeMark(m *snapstate.FlagMark, path string) error {
	if err := m.Write(path); err != nil {
		return err
	}
	r.fault("do:marked")
	return nil
}
