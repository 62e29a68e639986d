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
	"syscall"

	"endured/osutil"
	"endured/osutil/treecopy"
	"endured/overlord/state"
	"endured/snap"
	"endured/wrappers"
)

// doDiscardRevisions drops what a finished change made superfluous: revisions
// beyond the ones to retain, those that a revert had left behind, or the one
// that the user named. What a process still uses stays and is said to stay.
//
// The new revision serves by now: only where the user asked for nothing else
// is a failure to drop another one a failure of the change.
func (m *Manager) doDiscardRevisions(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	rec, err := m.Lookup(s.Snap)
	if err != nil {
		return nil, err
	}
	var left []error
	if s.Brings() {
		if err := treecopy.Remove(ctx, m.aside(s)); err != nil {
			left = append(left, fmt.Errorf("cannot remove old data: %w", err))
		}
		from, to, _, err := m.Sides(s)
		if err == nil {
			err = wrappers.Tidy(wrappers.Options{Dirs: m.Dirs}, from, to)
		}
		if err != nil {
			left = append(left, err)
		}
	}
	var gone, stay []snap.Revision
	for _, rev := range m.superfluous(rec, s) {
		dropped, err := m.drop(ctx, t, rec, rev, !s.Only.Unset())
		switch {
		case err != nil && (!s.Only.Unset() && !dropped || context.Cause(ctx) != nil):
			return nil, err
		case err != nil:
			left = append(left, err)
		}
		if dropped {
			gone = append(gone, rev)
		} else {
			stay = append(stay, rev)
		}
	}
	return func(tx *state.Tx) error {
		rec, err := Get(tx, s.Snap)
		if err != nil {
			return err
		}
		for _, err := range left {
			tx.Warnf("snap %q: %v", s.Snap, err)
		}
		rec.Sequence = slices.DeleteFunc(rec.Sequence, func(e Revision) bool { return slices.Contains(gone, e.Revision) })
		rec.DropSeals(func(r snap.Revision) bool { return slices.Contains(gone, r) })
		m.forget(rec.Name, func(r snap.Revision) bool { return !slices.Contains(gone, r) })
		if err := setLeaving(tx, rec, stay, gone); err != nil {
			return err
		}
		return Put(tx, rec)
	}, nil
}

// drop discards one revision, unless something uses it: that is an error if
// the user named it. With an error, dropped says that the revision is gone but
// for what the error names; otherwise it is as it was.
func (m *Manager) drop(ctx context.Context, t *state.Task, rec *Record, rev snap.Revision, named bool) (dropped bool, err error) {
	use, err := m.InUse(ctx, rec, rev)
	if err != nil {
		return false, err
	}
	switch {
	case use.Pinned() && named:
		return false, fmt.Errorf("cannot remove revision %s of snap %q: %s", rev, rec.Name, pidList(use.PIDs))
	case use.Pinned():
		t.Log("Revision %s stays: %s", rev, pidList(use.PIDs))
		return false, nil
	}
	logStrangers(t, rev, use)
	if err := m.detach(ctx, rec.Name, rev); err != nil {
		return false, errors.Join(err, m.remount(ctx, rec, rev))
	}
	return true, m.erase(context.WithoutCancel(ctx), rec.Name, rev) // no way back from here
}

// remount takes a half-done unmount back.
func (m *Manager) remount(ctx context.Context, rec *Record, revs ...snap.Revision) error {
	if errors.Is(context.Cause(ctx), state.ErrShutdown) {
		return nil // the task runs again
	}
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, rev := range revs {
		if _, err := os.Stat(m.Dirs.Blob(rec.Name, rev)); err == nil {
			errs = append(errs, m.mountRevision(ctx, rec.Name, rec.Rev(rev)))
		}
	}
	return errors.Join(append(errs, m.Systemd.Reload(ctx))...)
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
	for len(before) > max(m.Retain()-1, 0) {
		out = append(out, before[0])
		before = before[1:]
	}
	return out
}

// erase removes the file, the data and the profiles of a revision that is not
// mounted. A profile that a stranger to the snap got hold of stays with him.
func (m *Manager) erase(ctx context.Context, name string, rev snap.Revision) error {
	var errs []error
	if err := os.Remove(m.Dirs.Blob(name, rev)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("cannot remove snap file: %w", err))
	}
	if err := treecopy.Remove(ctx, m.Dirs.Data(name, rev)); err != nil {
		errs = append(errs, fmt.Errorf("cannot remove data of revision %s of snap %q: %w", rev, name, err))
	}
	for _, f := range []string{m.Dirs.FlagMark(name, rev), m.Dirs.SharedSealed(name, rev), m.Dirs.SealBook(name, rev)} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot remove what is left of a seal: %w", err))
		}
	}
	_ = os.Remove(filepath.Dir(m.Dirs.SealBook(name, rev))) // when it is empty
	m.tidyHome(name, rev)
	return errors.Join(append(errs, m.Profiles.Unload(ctx, name, rev))...)
}

// doDiscardSnap removes all that is left of a snap whose services are gone. It
// fails, with everything as it was, as long as nothing is lost; from then on
// what cannot be removed is named in a warning.
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
	var unmounted []snap.Revision
	for _, e := range rec.Sequence {
		unmounted = append(unmounted, e.Revision)
		if err := m.detach(ctx, rec.Name, e.Revision); err != nil {
			return nil, errors.Join(err, m.remount(ctx, rec, unmounted...))
		}
	}
	if err := m.markErased(s.Snap); err != nil {
		return nil, errors.Join(err, m.remount(ctx, rec, unmounted...))
	}
	var left []error
	ctx = context.WithoutCancel(ctx) // no way back from here
	for _, e := range rec.Sequence {
		left = append(left, m.erase(ctx, rec.Name, e.Revision))
	}
	// systemd keeps units whose files are gone until it looks again
	left = append(left, m.removeDirs(ctx, rec.Name), m.Systemd.Reload(ctx))
	m.forget(rec.Name, func(snap.Revision) bool { return false })
	return func(tx *state.Tx) error {
		if err := errors.Join(left...); err != nil {
			tx.Warnf("snap %q was removed, but not all of it: %v", rec.Name, err)
		}
		return Remove(tx, rec.Name)
	}, nil
}

// markErased makes it durable that there is no way back: an abort and a crash
// together must not take the snapshot away, too.
func (m *Manager) markErased(name string) error {
	err := m.State.Update(func(tx *state.Tx) error {
		rec, err := Get(tx, name)
		if err != nil {
			return err
		}
		rec.Erased = true
		return Put(tx, rec)
	})
	if err != nil {
		return fmt.Errorf("cannot begin to erase snap %q: %w", name, err)
	}
	return nil
}

func (m *Manager) removeDirs(ctx context.Context, name string) error {
	dirs := []string{m.Dirs.SnapData(name), m.Dirs.Snap(name)}
	// in /tmp anybody may have put something of that name
	tmp := filepath.Dir(m.Dirs.PrivateTmp(name))
	var st syscall.Stat_t
	if err := syscall.Lstat(filepath.Dir(tmp), &st); err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR && int(st.Uid) == os.Geteuid() {
		dirs = append(dirs, tmp)
	}
	for _, d := range dirs {
		if at, err := osutil.MountedAt(d); err != nil {
			return err
		} else if at != nil {
			return fmt.Errorf("cannot remove %s: something is mounted on it", d)
		}
		if err := treecopy.Remove(ctx, d); err != nil {
			return fmt.Errorf("cannot remove what is left of snap %q: %w", name, err)
		}
	}
	if err := os.Remove(wrappers.TmpfilesPath(m.Dirs, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove what is left of snap %q: %w", name, err)
	}
	m.tidyHome(name, 0)
	// the shared parents go with the last snap
	os.Remove(m.Dirs.Bin())
	return nil
}
