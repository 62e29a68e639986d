// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/overlord/state"
	"endured/snap"
)

// snapshotMeta is the meta.json of a saved snapshot.
type snapshotMeta struct {
	Snap     string        `json:"snap"`
	Revision snap.Revision `json:"revision"`
	Version  string        `json:"version"`
	Time     time.Time     `json:"time"`
	YAML     string        `json:"snap-yaml"`
}

func (m *Manager) snapshotFile(t *state.Task, s *Setup) string {
	return filepath.Join(m.Dirs.Snapshots(), fmt.Sprintf("%s_%s_%s.zip", t.ChangeID(), s.Snap, s.From))
}

// doSaveSnapshot packs the current revision's data and the common data before
// they are removed: a zip with meta.json and archive.tgz, whose paths are
// <revision>/… and common/….
func (m *Manager) doSaveSnapshot(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	rec, err := m.Lookup(s.Snap)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, d := range []string{rec.Current.String(), "common"} {
		es, err := os.ReadDir(filepath.Join(m.Dirs.SnapData(s.Snap), d))
		if err == nil && len(es) > 0 {
			dirs = append(dirs, d)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot save data of snap %q: %w", s.Snap, err)
		}
	}
	if len(dirs) == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(m.Dirs.Snapshots(), 0o700); err != nil {
		return nil, fmt.Errorf("cannot save data of snap %q: %w", s.Snap, err)
	}
	file := m.snapshotFile(t, s)
	if err := m.writeSnapshot(ctx, file+".part", rec, dirs); err != nil {
		os.Remove(file + ".part")
		return nil, fmt.Errorf("cannot save data of snap %q: %w", s.Snap, err)
	}
	if err := os.Rename(file+".part", file); err != nil {
		return nil, fmt.Errorf("cannot save data of snap %q: %w", s.Snap, err)
	}
	t.Log("Saved data in %s", file)
	return nil, osutil.SyncDirEntry(file)
}

func (m *Manager) writeSnapshot(ctx context.Context, path string, rec *Record, dirs []string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	cur := rec.Rev(rec.Current)
	info, err := m.Info(rec.Name, cur)
	if err != nil {
		return err
	}
	w, err := z.Create("meta.json")
	if err != nil {
		return err
	}
	meta := snapshotMeta{rec.Name, rec.Current, info.Version, time.Now(), cur.YAML}
	if err := json.NewEncoder(w).Encode(meta); err != nil {
		return err
	}
	// stored, not deflated: the archive inside is compressed
	w, err = z.CreateHeader(&zip.FileHeader{Name: "archive.tgz", Method: zip.Store})
	if err != nil {
		return err
	}
	if err := tarInto(ctx, w, m.Dirs.SnapData(rec.Name), dirs); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Sync()
}

func tarInto(ctx context.Context, w io.Writer, dir string, names []string) error {
	args := append([]string{"--create", "--gzip", "--sparse", "--xattrs", "--acls", "--one-file-system", "--directory", dir, "--"}, names...)
	cmd := exec.CommandContext(ctx, "tar", args...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// Removed tells whether the task's change has removed its snap for good: an
// abort that came too late undoes nothing then.
func (m *Manager) Removed(t *state.Task) (bool, error) {
	s, err := m.SetupOf(t)
	if err != nil || s.Event != lifecycle.Remove {
		return false, err
	}
	var missing *NotInstalledError
	rec, err := m.Lookup(s.Snap)
	if errors.As(err, &missing) || err == nil && rec.Erased {
		t.Log("Too late to go back: snap %q is removed", s.Snap)
		return true, nil
	}
	return false, err
}

func (m *Manager) undoSaveSnapshot(ctx context.Context, t *state.Task) (state.Commit, error) {
	if removed, err := m.Removed(t); removed || err != nil {
		return nil, err
	}
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	for _, f := range []string{m.snapshotFile(t, s), m.snapshotFile(t, s) + ".part"} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot remove snapshot: %w", err)
		}
	}
	return nil, nil
}
