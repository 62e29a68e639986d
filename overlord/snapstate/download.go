// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"endured/overlord/state"
	"endured/snap"
	"endured/store"
)

// DownloadPath is where a revision is downloaded to. It is named as uploads
// are: what no change refers to goes at the daemon's next start.
func (m *Manager) DownloadPath(name string, rev snap.Revision) string {
	return filepath.Join(m.Dirs.Blobs(), fmt.Sprintf("%s%s_%s.download", SpoolPrefix, name, rev))
}

// doDownload fetches the file that the store described, judges it, and puts it
// in its place.
func (m *Manager) doDownload(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	// after a crash it may be there already, verified: it got its name after that
	blob := m.Dirs.Blob(s.Snap, s.Rev.Revision)
	if fi, err := os.Stat(blob); err == nil && fi.Size() == s.Rev.Size {
		return m.tellPowerless(s)
	}
	report := func(done, total int64) { t.SetProgress("bytes", int(done), int(total)) }
	if err := store.Fetch(ctx, m.Store, s.Offer, s.File, report); err != nil {
		return nil, err
	}
	if err = checkDownload(s); err == nil {
		err = m.placeBlob(s)
	}
	if err != nil {
		return nil, errors.Join(err, m.removeBlob(s))
	}
	return m.tellPowerless(s)
}

// checkDownload makes sure that the file is what the change was made for.
func checkDownload(s *Setup) error {
	f, err := snap.Open(s.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if !bytes.Equal(f.YAML(), []byte(s.Rev.YAML)) {
		return &store.SumError{Name: s.Snap, Revision: s.Rev.Revision, What: "meta/snap.yaml"}
	}
	if !slices.Equal(slices.Sorted(maps.Keys(f.Info().Hooks)), s.Rev.Hooks) {
		return &store.SumError{Name: s.Snap, Revision: s.Rev.Revision, What: "meta/hooks"}
	}
	if err := f.Info().Supported(); err != nil {
		return err
	}
	return f.CheckFiles()
}

// doSwitchChannel changes which channel a snap tracks, and nothing else.
func (m *Manager) doSwitchChannel(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	return func(tx *state.Tx) error {
		rec, err := Get(tx, s.Snap)
		if err != nil {
			return err
		}
		if err := tx.Task(t.ID()).SetUndo(rec.Channel); err != nil {
			return err
		}
		rec.Channel = s.Channel
		return Put(tx, rec)
	}, nil
}

func (m *Manager) undoSwitchChannel(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	var before string
	if err := t.Undo(&before); errors.Is(err, state.ErrNoState) {
		return nil, nil // it was never done
	} else if err != nil {
		return nil, err
	}
	return func(tx *state.Tx) error {
		rec, err := Get(tx, s.Snap)
		if err != nil {
			return err
		}
		rec.Channel = before
		return Put(tx, rec)
	}, nil
}
