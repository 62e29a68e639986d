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
	blob := m.Dirs.Blob(s.Snap, s.Rev.Revision)
	if err := os.Rename(s.File, blob); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot put snap file in place: %w", err)
		}
		// after a crash the file may be there already
		if fi, serr := os.Stat(blob); serr != nil || fi.Size() != s.Rev.Size {
			return nil, fmt.Errorf("cannot put snap file in place: %w", err)
		}
	}
	if err := syncFile(blob); err != nil {
		return nil, fmt.Errorf("cannot write snap file: %w", err)
	}
	return nil, osutil.SyncDirEntry(m.Dirs.Blobs())
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (m *Manager) undoPrepare(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	for _, p := range []string{m.Dirs.Blob(s.Snap, s.Rev.Revision), s.File} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot remove snap file: %w", err)
		}
	}
	return nil, nil
}

// CleanSpool removes uploads that no unfinished change refers to: a daemon that
// died between an upload and its change leaves one.
func (m *Manager) CleanSpool() error {
	used := map[string]bool{}
	err := m.State.View(func(tx *state.Tx) error {
		for _, c := range tx.Changes() {
			if c.Ready() {
				continue
			}
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
