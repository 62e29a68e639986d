// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"endured/interfaces/mount"
	"endured/osutil"
	"endured/snap"
)

// book is what has to be known to take mounts back. It lives as long as they
// can: until the boot ends.
type book struct {
	Successor snap.Revision `json:"successor"`
	// Noted tells that Before was found out; it was read-only before.
	Noted  bool         `json:"noted,omitempty"`
	Before []mount.Mark `json:"before,omitempty"`
	// Guests tells that other snaps may have some of the data mounted.
	Guests bool `json:"guests,omitempty"`
}

// readBook returns nil if nothing was sealed in this boot.
func (m *Manager) readBook(name string, rev snap.Revision) (*book, error) {
	path := m.Dirs.SealBook(name, rev)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var b book
	if err == nil {
		err = json.Unmarshal(data, &b)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what was sealed: %w", err)
	}
	return &b, nil
}

func (m *Manager) writeBook(name string, rev snap.Revision, b *book) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	path := m.Dirs.SealBook(name, rev)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot note what is sealed: %w", err)
	}
	if err := osutil.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("cannot note what is sealed: %w", err)
	}
	return nil
}

func (m *Manager) dropBook(name string, rev snap.Revision) error {
	path := m.Dirs.SealBook(name, rev)
	for _, p := range []string{m.Dirs.SharedSealed(name, rev), path} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot forget what was sealed: %w", err)
		}
	}
	_ = os.Remove(filepath.Dir(path)) // when it is empty
	return nil
}
