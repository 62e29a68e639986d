// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"endured/osutil"
	"endured/overlord/state"
	"endured/snap"
)

// SpoolPrefix starts the names of uploads in the blob directory.
const SpoolPrefix = ".local-install-"

// doPrepare moves the spooled file to its place. The file was hashed and
// validated in the same root-only directory: the inode stays the same.
func (m *Manager) doPrepare(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	if err := m.placeBlob(s); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot put snap file in place: %w", err), m.removeBlob(s))
	}
	return m.tellPowerless(s)
}

// tellPowerless warns of files that will not do what their mode says.
func (m *Manager) tellPowerless(s *Setup) (state.Commit, error) {
	f, err := snap.Open(m.Dirs.Blob(s.Snap, s.Rev.Revision))
	if err != nil {
		return nil, errors.Join(err, m.removeBlob(s))
	}
	defer f.Close()
	list, err := f.Specials()
	if err != nil {
		return nil, errors.Join(err, m.removeBlob(s))
	}
	text := snap.Powerless(list)
	if text == "" {
		return nil, nil
	}
	return func(tx *state.Tx) error {
		tx.Warnf("snap %q (%s): %s", s.Snap, s.Rev.Revision, text)
		return nil
	}, nil
}

func (m *Manager) placeBlob(s *Setup) error {
	blob := m.Dirs.Blob(s.Snap, s.Rev.Revision)
	if err := os.Rename(s.File, blob); err != nil {
		// after a crash the file may be there already
		if fi, serr := os.Stat(blob); !errors.Is(err, fs.ErrNotExist) || serr != nil || fi.Size() != s.Rev.Size {
			return err
		}
	}
	if err := syncFile(blob); err != nil {
		return err
	}
	return osutil.SyncDirEntry(blob)
}

// removeBlob removes the file, wherever it got to.
func (m *Manager) removeBlob(s *Setup) error {
	for _, p := range []string{m.Dirs.Blob(s.Snap, s.Rev.Revision), s.File} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove snap file: %w", err)
		}
	}
	err := osutil.SyncDirEntry(m.Dirs.Blob(s.Snap, s.Rev.Revision))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not even the directory is there
	}
	return err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// undoPrepare is the last step of every way back: it also takes away what came
// with a first installation and belongs to no single task.
func (m *Manager) undoPrepare(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	if err := m.removeBlob(s); err != nil {
		return nil, err
	}
	if s.From.Unset() {
		if err := m.removeDirs(ctx, s.Snap); err != nil {
			return nil, err
		}
	}
	// systemd keeps units whose files are gone until it looks again
	return nil, m.Systemd.Reload(ctx)
}

// CleanSpool removes uploads that no unfinished change refers to: a daemon that
// died between an upload and its change leaves one.
func (m *Manager) CleanSpool() error {
	used := map[string]bool{}
	err := m.State.View(func(tx *state.Tx) error {
		for _, c := range tx.Unready() {
			for k := range c.Data() {
				var s Setup
				if strings.HasPrefix(k, setupKey) && c.Get(k, &s) == nil {
					used[s.File] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(m.Dirs.Blobs(), SpoolPrefix+"*"))
	if err != nil {
		return err
	}
	for _, p := range left {
		if !used[p] {
			if err := os.Remove(p); err != nil {
				return fmt.Errorf("cannot remove an old upload: %w", err)
			}
		}
	}
	return nil
}
