// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/osutil/treecopy"
	"endured/overlord/state"
	"endured/snap"
	"endured/snap/userdata"
)

// HOME of services is /root/snap/SNAP/REVISION. It goes with root what goes
// with any user, see package userdata, except that it is made by the switch,
// while no service runs that does not stay: "snap run" as root finds it made.
// Like any user's it outlives the snap, if there is anything in it.

// homeKey in a change says that root had no directory of the new revision: the
// one that is there is the change's.
const homeKey = "home/"

func (m *Manager) root() userdata.User {
	return userdata.User{Home: m.Dirs.Under("/root"), UID: os.Getuid()}
}

func (m *Manager) rootData(name, sub string) string {
	return filepath.Join(m.root().Home, "snap", name, sub)
}

// claimHome notes whether the new revision's directory will be the change's.
func (m *Manager) claimHome(t *state.Task, s *Setup) (state.Commit, error) {
	_, err := os.Lstat(m.rootData(s.Snap, s.To.String()))
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot look at root's data: %w", err)
	}
	return func(tx *state.Tx) error { return tx.Change(t.ChangeID()).Set(homeKey+s.Snap, true) }, nil
}

func (m *Manager) ownsHome(change string, s *Setup) (bool, error) {
	ours := false
	err := m.State.View(func(tx *state.Tx) error {
		if err := tx.Change(change).Get(homeKey+s.Snap, &ours); !errors.Is(err, state.ErrNoState) {
			return err
		}
		return nil
	})
	return ours, err
}

// makeHome makes what the services of the revision that comes find as theirs.
func (m *Manager) makeHome(ctx context.Context, s *Setup) error {
	_, to, _, err := m.Sides(s)
	if err != nil || to == nil || len(to.Services()) == 0 {
		return err
	}
	if err := os.MkdirAll(m.root().Home, 0o700); err != nil {
		return fmt.Errorf("cannot make root's home directory: %w", err)
	}
	return m.root().MakeFrom(ctx, s.Snap, s.To, s.From)
}

// syncHome makes durable what makeHome made.
func (m *Manager) syncHome(s *Setup) error {
	dir := m.rootData(s.Snap, "")
	if _, err := os.Lstat(dir); err != nil {
		return nil // it has no services
	}
	return osutil.SyncFilesystem(dir)
}

// dropHome takes away what makeHome made in this change.
func (m *Manager) dropHome(ctx context.Context, change string, s *Setup) error {
	ours, err := m.ownsHome(change, s)
	if err != nil || !ours {
		return err
	}
	return treecopy.Remove(ctx, m.rootData(s.Snap, s.To.String()))
}

// tidyHome removes what is empty of the directory of a revision, or of all
// when the snap goes (rev is 0). What root or a service put there stays, as it
// does in any user's home.
func (m *Manager) tidyHome(name string, rev snap.Revision) {
	if !rev.Unset() {
		_ = unix.Rmdir(m.rootData(name, rev.String()))
		return
	}
	for _, d := range []string{m.rootData(name, "common"), m.rootData(name, ""), filepath.Dir(m.rootData(name, ""))} {
		_ = unix.Rmdir(d)
	}
}

// NewLocal is the revision for a local file of a snap that is not installed:
// x1, unless users kept directories of an earlier installation, which are not
// to be mistaken for the new one's.
func (m *Manager) NewLocal(name string) snap.Revision {
	const most = 1 << 20 // a user may name directories at will
	highest := 0
	for _, home := range []string{m.Dirs.Under("/root"), m.Dirs.Under("/home/*")} {
		kept, _ := filepath.Glob(filepath.Join(home, "snap", name, "x*")) // the pattern is good
		for _, k := range kept {
			rev, err := snap.ParseRevision(filepath.Base(k))
			if err == nil && rev.Local() && int(-rev) < most {
				highest = max(highest, int(-rev))
			}
		}
	}
	return snap.Revision(-highest - 1)
}
