// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/overlord/state"
	"endured/snap"
	"endured/wrappers"
)

// doDiscardRevisions drops what a finished change made superfluous: revisions
// beyond the ones to retain, those that a revert had left behind, or the one
// that the user named. What a process still uses stays and is said to stay.
func (m *Manager) doDiscardRevisions(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	rec, err := m.Lookup(s.Snap)
	if err != nil {
		return nil, err
	}
	if s.Brings() {
		if err := os.RemoveAll(m.aside(s)); err != nil {
			return nil, fmt.Errorf("cannot remove old data: %w", err)
		}
	}
	var gone []snap.Revision
	for _, rev := range m.superfluous(rec, s) {
		use, err := m.InUse(ctx, rec, rev)
		if err != nil {
			return nil, err
		}
		if use.Pinned() {
			if !s.Only.Unset() {
				return nil, fmt.Errorf("cannot remove revision %s of snap %q: %s", rev, rec.Name, pidList(use.PIDs))
			}
			t.Log("Revision %s stays: %s", rev, pidList(use.PIDs))
			continue
		}
		logStrangers(t, rev, use)
		if err := m.discard(ctx, rec.Name, rev); err != nil {
			return nil, err
		}
		gone = append(gone, rev)
	}
	return func(tx *state.Tx) error {
		rec, err := Get(tx, s.Snap)
		if err != nil {
			return err
		}
		rec.Sequence = slices.DeleteFunc(rec.Sequence, func(e Revision) bool { return slices.Contains(gone, e.Revision) })
		m.forget(rec.Name, func(r snap.Revision) bool { return !slices.Contains(gone, r) })
		return Put(tx, rec)
	}, nil
}

func pidList(pids []int) string {
	words := make([]string, len(pids))
	for i, p := range pids {
		words[i] = fmt.Sprint(p)
	}
	return "used by pid " + strings.Join(words, ", ")
}

func logStrangers(t *state.Task, rev snap.Revision, use *Use) {
	for _, h := range use.Strangers {
		t.Log("Detached revision %s from %s (pid %d), which is not of the snap", rev, h.Comm, h.PID)
	}
}

// superfluous lists the revisions to drop, oldest first.
func (m *Manager) superfluous(rec *Record, s *Setup) []snap.Revision {
	if !s.Only.Unset() {
		return []snap.Revision{s.Only}
	}
	var before, out []snap.Revision
	passed := false
	for _, e := range rec.Sequence {
		switch {
		case e.Revision == rec.Current:
		case passed:
			// a revert had gone back from it
			out = append(out, e.Revision)
		default:
			before = append(before, e.Revision)
		}
		passed = passed || e.Revision == s.From
	}
	for len(before) > max(m.Retain-1, 0) {
		out = append(out, before[0])
		before = before[1:]
	}
	return out
}

// discard removes one revision: mount, unit, file and data.
func (m *Manager) discard(ctx context.Context, name string, rev snap.Revision) error {
	err := m.unmount(ctx, name, rev, 0)
	if errors.Is(err, unix.EBUSY) {
		err = m.unmount(ctx, name, rev, unix.MNT_DETACH)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(m.Dirs.Blob(name, rev)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove snap file: %w", err)
	}
	if err := os.RemoveAll(m.Dirs.Data(name, rev)); err != nil {
		return fmt.Errorf("cannot remove data of revision %s of snap %q: %w", rev, name, err)
	}
	return nil
}

// doDiscardSnap removes all that is left of a snap whose services are gone.
func (m *Manager) doDiscardSnap(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	rec, err := m.Lookup(s.Snap)
	if err != nil {
		return nil, err
	}
	// all or nothing: look at every revision before any is touched
	for _, e := range rec.Sequence {
		use, err := m.InUse(ctx, rec, e.Revision)
		if err != nil {
			return nil, err
		}
		if use.Pinned() {
			return nil, fmt.Errorf("cannot remove snap %q: revision %s is %s", rec.Name, e.Revision, pidList(use.PIDs))
		}
		logStrangers(t, e.Revision, use)
	}
	for _, e := range rec.Sequence {
		if err := m.discard(ctx, rec.Name, e.Revision); err != nil {
			return nil, err
		}
	}
	if err := m.removeDirs(rec.Name); err != nil {
		return nil, err
	}
	// systemd keeps units whose files are gone until it looks again
	if err := m.Systemd.Reload(ctx); err != nil {
		return nil, err
	}
	m.forget(rec.Name, func(snap.Revision) bool { return false })
	return func(tx *state.Tx) error {
		return Remove(tx, rec.Name)
	}, nil
}

func (m *Manager) removeDirs(name string) error {
	for _, d := range []string{m.Dirs.SnapData(name), m.Dirs.Snap(name), filepath.Dir(m.Dirs.PrivateTmp(name))} {
		if at, err := osutil.MountedAt(d); err != nil {
			return err
		} else if at != nil {
			return fmt.Errorf("cannot remove %s: something is mounted on it", d)
		}
		if err := os.RemoveAll(d); err != nil {
			return fmt.Errorf("cannot remove what is left of snap %q: %w", name, err)
		}
	}
	for _, f := range []string{m.Dirs.SwitchLock(name), wrappers.TmpfilesPath(m.Dirs, name)} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove what is left of snap %q: %w", name, err)
		}
	}
	// the shared parents go with the last snap
	os.Remove(m.Dirs.Bin())
	return nil
}
