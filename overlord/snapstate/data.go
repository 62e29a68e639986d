// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"endured/osutil/treecopy"
	"endured/overlord/state"
	"endured/snap"
)

// doCopyData makes the data directories of the new revision. Where a revision
// is current its data is copied: all of it now, while the services still run;
// FinishCopy brings the differences inside the switch.
func (m *Manager) doCopyData(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	commit, err := m.claimHome(t, s)
	if err != nil {
		return nil, err
	}
	err = m.makeData(ctx, t, s)
	if err != nil && !errors.Is(context.Cause(ctx), state.ErrShutdown) {
		err = errors.Join(err, m.dropData(context.WithoutCancel(ctx), t, s))
	}
	return commit, err
}

func (m *Manager) makeData(ctx context.Context, t *state.Task, s *Setup) error {
	if err := m.claimData(t, s); err != nil {
		return err
	}
	for _, d := range []string{m.Dirs.AllData(), m.Dirs.SnapData(s.Snap), m.Dirs.Common(s.Snap)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("cannot make data directory: %w", err)
		}
	}
	if err := m.setAside(s); err != nil {
		return err
	}
	copied, err := m.copied(s)
	if err != nil {
		return err
	}
	if !copied {
		if err := os.MkdirAll(m.Dirs.Data(s.Snap, s.To), 0o755); err != nil {
			return fmt.Errorf("cannot make data directory: %w", err)
		}
		return nil
	}
	return m.firstCopy(ctx, t, s)
}

func (m *Manager) firstCopy(ctx context.Context, t *state.Task, s *Setup) error {
	c := m.newCopier(s, t)
	if err := c.First(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copies[t.ChangeID()+"/"+s.Snap] = c
	return nil
}

// ResumeCopy leaves FinishCopy, which holds the services up, as little to do as
// can be: it copies what has changed since the first copy, or makes that again
// where the daemon that made it is gone. It is called before the switch begins.
func (m *Manager) ResumeCopy(ctx context.Context, t *state.Task, s *Setup) error {
	m.mu.Lock()
	have := m.copies[t.ChangeID()+"/"+s.Snap]
	m.mu.Unlock()
	copied, err := m.copied(s)
	if err != nil || !copied {
		return err
	}
	if have != nil {
		_, err := have.Again(ctx)
		return err
	}
	if _, err := os.Lstat(m.Dirs.Data(s.Snap, s.To)); err == nil {
		return nil // it was finished
	}
	return m.firstCopy(ctx, t, s)
}

// TakeBackCopy undoes FinishCopy.
func (m *Manager) TakeBackCopy(ctx context.Context, change string, s *Setup) error {
	if err := m.dropHome(ctx, change, s); err != nil {
		return err
	}
	copied, err := m.copied(s)
	if err != nil || !copied || m.keepsCopy(s) {
		return err
	}
	c := m.newCopier(s, nil)
	data := m.Dirs.Data(s.Snap, s.To)
	err = os.Rename(data, c.Temporary()) // whose removal has time
	if errors.Is(err, fs.ErrExist) {
		if err = c.Abandon(); err == nil {
			err = os.Rename(data, c.Temporary())
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot take the copy of the data back: %w", err)
	}
	return nil
}

func (m *Manager) newCopier(s *Setup, t *state.Task) *treecopy.Copier {
	opts := treecopy.Options{Logger: m.Log}
	if t != nil {
		opts.Progress = func(done, total int64) { t.SetProgress("data", int(done>>10), int(total>>10)+1) }
	}
	return treecopy.New(m.Dirs.Data(s.Snap, s.From), m.Dirs.Data(s.Snap, s.To), opts)
}

// copied tells whether the new revision's data starts as a copy of the old. It
// is an error if there is data that cannot be copied: to go on without it would
// be to lose it silently.
func (m *Manager) copied(s *Setup) (bool, error) {
	if s.From.Unset() || !s.Brings() {
		return false, nil
	}
	data := m.Dirs.Data(s.Snap, s.From)
	fi, err := os.Lstat(data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("cannot copy data: %w", err)
	case !fi.IsDir():
		return false, fmt.Errorf("cannot copy data: %s is not a directory (%s)", data, fi.Mode().Type())
	}
	return true, nil
}

func (m *Manager) aside(s *Setup) string {
	return filepath.Join(m.Dirs.SnapData(s.Snap), "."+s.To.String()+".aside")
}

// setAside moves a data directory that already has the new revision's name out
// of the way; it comes back if the change fails.
func (m *Manager) setAside(s *Setup) error {
	if _, err := os.Lstat(m.aside(s)); err == nil {
		return nil // an earlier run of the task did it
	}
	if err := m.Unflag(context.Background(), s.Snap, s.To); err != nil { // a seal's; a flagged directory has to stay where it is
		return err
	}
	err := os.Rename(m.Dirs.Data(s.Snap, s.To), m.aside(s))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot set old data aside: %w", err)
	}
	return nil
}

// FinishCopy brings the new revision's data up to the old one's last write and
// puts it in its place. It is called inside the switch, when nothing of the old
// revision writes any more. A directory that is there is complete, also after a
// loss of power: then there is nothing to do.
func (m *Manager) FinishCopy(ctx context.Context, change string, s *Setup) error {
	if err := m.makeHome(ctx, s); err != nil {
		return err
	}
	if copied, err := m.copied(s); err != nil || !copied {
		return err
	}
	if _, err := os.Lstat(m.Dirs.Data(s.Snap, s.To)); err == nil {
		return nil
	}
	m.mu.Lock()
	c := m.copies[change+"/"+s.Snap]
	m.mu.Unlock()
	if c == nil {
		c = m.newCopier(s, nil)
	}
	if _, err := c.Differences(ctx); err != nil {
		return err
	}
	return c.Complete(ctx)
}

// Restamped tells the copy of a change what only seems to have changed, see
// treecopy.Copier.
func (m *Manager) Restamped(change string, s *Setup, stamps []treecopy.Stamp) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.copies[change+"/"+s.Snap]; c != nil {
		c.Restamped(stamps)
	}
}

// SyncCopy brings the name of the copy to the disk before the boot link goes. It
// is called after the switch has released: it can take seconds.
func (m *Manager) SyncCopy(ctx context.Context, change string, s *Setup) error {
	m.mu.Lock()
	c := m.copies[change+"/"+s.Snap]
	delete(m.copies, change+"/"+s.Snap)
	m.mu.Unlock()
	if err := m.syncHome(s); err != nil {
		return err
	}
	if c == nil {
		if copied, err := m.copied(s); err != nil || !copied {
			return err
		}
		c = m.newCopier(s, nil)
	}
	return c.Sync(ctx)
}

// DropCopy takes the new revision's data away and puts back what had its name.
func (m *Manager) DropCopy(ctx context.Context, s *Setup) error {
	if !s.Brings() {
		return nil
	}
	if !s.From.Unset() {
		if err := m.newCopier(s, nil).Abandon(); err != nil {
			return err
		}
	}
	if m.keepsCopy(s) {
		return nil
	}
	if err := treecopy.Remove(ctx, m.Dirs.Data(s.Snap, s.To)); err != nil {
		return fmt.Errorf("cannot remove data: %w", err)
	}
	err := os.Rename(m.aside(s), m.Dirs.Data(s.Snap, s.To))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot put old data back: %w", err)
	}
	return nil
}

// keepsCopy tells whether a revision that was there before the change keeps
// what is there now: its own data is back already, or was discarded with what
// the change made superfluous, and then the copy is what is left.
func (m *Manager) keepsCopy(s *Setup) bool {
	_, err := os.Lstat(m.aside(s))
	return s.Had && errors.Is(err, fs.ErrNotExist)
}

func (m *Manager) undoCopyData(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	delete(m.copies, t.ChangeID()+"/"+s.Snap)
	m.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	if err := m.dropHome(ctx, t.ChangeID(), s); err != nil {
		return nil, err
	}
	return nil, m.dropData(ctx, t, s)
}

// EnsureDirs makes data directories that a revision had and somebody removed:
// its services could not start without them.
func (m *Manager) EnsureDirs(info *snap.Info) error {
	for _, d := range []string{m.Dirs.Data(info.Name, info.Revision), m.Dirs.Common(info.Name)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("cannot make data directory: %w", err)
		}
	}
	return nil
}

// madeKey in a change says that the snap had no data directory before it.
const madeKey = "made-data/"

// claimData notes, before anything is made, whether a first install makes the
// snap's data directory: one that was there before is not its to remove.
func (m *Manager) claimData(t *state.Task, s *Setup) error {
	_, err := os.Lstat(m.Dirs.SnapData(s.Snap))
	if err == nil || !s.From.Unset() {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look at the data of snap %q: %w", s.Snap, err)
	}
	return m.State.Update(func(tx *state.Tx) error { return tx.Change(t.ChangeID()).Set(madeKey+s.Snap, true) })
}

// dropData removes the directories that makeData made: a first install leaves
// none behind.
func (m *Manager) dropData(ctx context.Context, t *state.Task, s *Setup) error {
	if err := m.DropCopy(ctx, s); err != nil || !s.From.Unset() {
		return err
	}
	made := false
	err := m.State.View(func(tx *state.Tx) error {
		if err := tx.Change(t.ChangeID()).Get(madeKey+s.Snap, &made); !errors.Is(err, state.ErrNoState) {
			return err
		}
		return nil
	})
	if err != nil || !made {
		return err
	}
	if err := treecopy.Remove(ctx, m.Dirs.SnapData(s.Snap)); err != nil {
		return fmt.Errorf("cannot remove data: %w", err)
	}
	m.tidyHome(s.Snap, 0)
	return nil
}
