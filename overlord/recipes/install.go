// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// Errors of installing that clients know by kind.
type (
	// NeedsFlagError says that a snap can only be installed with a flag:
	// "classic" or "devmode".
	NeedsFlagError struct{ Snap, Flag string }
	// UnassertedError says that a local file came without --dangerous.
	UnassertedError struct{ File string }
)

func (e *NeedsFlagError) Error() string {
	return fmt.Sprintf("snap %q requires %s confinement", e.Snap, e.Flag)
}

func (e *UnassertedError) Error() string {
	return fmt.Sprintf("cannot find signatures with metadata for snap %q", e.File)
}

// InstallFile installs the .snap at path, which lies in the blob directory and
// is taken over. Over an installed snap this is a refresh. It returns the id of
// the change, which is done already when the file is what is current.
func (m *Manager) InstallFile(ctx context.Context, path string, o InstallOptions) (string, error) {
	id, kept, err := m.installFile(ctx, path, o)
	if !kept {
		if rerr := os.Remove(path); rerr != nil {
			err = errors.Join(err, fmt.Errorf("cannot remove the upload: %w", rerr))
		}
	}
	return id, err
}

func (m *Manager) installFile(ctx context.Context, path string, o InstallOptions) (id string, kept bool, err error) {
	s, err := m.setupInstall(ctx, path, o)
	if err != nil {
		return "", false, err
	}
	shown := filepath.Base(o.Name)
	if s.From == s.To && !s.From.Unset() {
		id, err := m.nothingToDo(s, shown)
		return id, false, err
	}
	// reasons to refuse are better found before anything is begun
	plan, err := m.plan(ctx, s)
	if err != nil {
		return "", false, err
	}
	kind, summary := "install-snap", fmt.Sprintf("Install %q snap from file %q", s.Snap, shown)
	if !s.From.Unset() {
		kind, summary = "refresh-snap", fmt.Sprintf("Refresh %q snap from file %q", s.Snap, shown)
	}
	id, err = m.start(kind, summary, stillSo(s), forInstall(s, shown, plan.Hooks))
	return id, err == nil, err
}

// stillSo checks, as the change is made, that what its setup was made from is
// as it was.
func stillSo(s *snapstate.Setup) func(tx *state.Tx) error {
	if s.From.Unset() {
		return func(tx *state.Tx) error {
			var missing *snapstate.NotInstalledError
			if _, err := snapstate.Get(tx, s.Snap); !errors.As(err, &missing) {
				return fmt.Errorf("cannot go on: snap %q changed in the meantime, try again", s.Snap)
			}
			return nil
		}
	}
	same := unchanged(s.Snap, s.From, true)
	return func(tx *state.Tx) error {
		if err := same(tx); err != nil || s.From == s.To {
			return err
		}
		if rec, err := snapstate.Get(tx, s.Snap); err != nil || (rec.Rev(s.To) != nil) != s.Had {
			return fmt.Errorf("cannot go on: snap %q changed in the meantime, try again", s.Snap)
		}
		return nil
	}
}

// LocalFile is an uploaded file, which lies in dirs.Blobs().
type LocalFile struct {
	Path string
	Name string // as the user typed it
}

// InstallFiles installs several uploaded snaps in one change, each in a lane of
// its own or, if they are to go together, all in one. A file that is current already is left out. It takes over the files
// like InstallFile.
func (m *Manager) InstallFiles(ctx context.Context, files []LocalFile, o InstallOptions) (string, error) {
	id, used, err := m.installFiles(ctx, files, o)
	for _, f := range files {
		if used[f.Path] {
			continue
		}
		if rerr := os.Remove(f.Path); rerr != nil {
			err = errors.Join(err, fmt.Errorf("cannot remove the upload: %w", rerr))
		}
	}
	return id, err
}

func (m *Manager) installFiles(ctx context.Context, files []LocalFile, o InstallOptions) (id string, used map[string]bool, err error) {
	var rs []*recipe
	var checks []func(tx *state.Tx) error
	var snaps, shown []string
	used = map[string]bool{}
	for _, f := range files {
		o.Name = f.Name
		s, err := m.setupInstall(ctx, f.Path, o)
		if err != nil {
			return "", nil, err
		}
		if slices.Contains(snaps, s.Snap) {
			return "", nil, fmt.Errorf("cannot install several files of snap %q at once", s.Snap)
		}
		snaps, shown = append(snaps, s.Snap), append(shown, filepath.Base(f.Name))
		if s.From == s.To && !s.From.Unset() {
			continue
		}
		plan, err := m.plan(ctx, s)
		if err != nil {
			return "", nil, err
		}
		r := forInstall(s, filepath.Base(f.Name), plan.Hooks)
		if o.Together {
			r.lane = 1
		}
		rs, checks = append(rs, r), append(checks, stillSo(s))
		used[f.Path] = true
	}
	again := func(tx *state.Tx) error {
		for _, check := range checks {
			if err := check(tx); err != nil {
				return err
			}
		}
		return nil
	}
	summary := fmt.Sprintf("Install snaps %s from files %s", quoted(snaps), quoted(shown))
	id, err = m.start("install-snap", summary, again, rs...)
	if err != nil {
		return "", nil, err
	}
	return id, used, nil
}

// nothingToDo makes a change that is done: the file is what is current.
func (m *Manager) nothingToDo(s *snapstate.Setup, shown string) (string, error) {
	var id string
	err := m.update(func(tx *state.Tx) error {
		if err := snapstate.CheckConflict(tx, "", s.Snap); err != nil {
			return err
		}
		c := tx.NewChange("refresh-snap", fmt.Sprintf("Refresh %q snap from file %q: it is current already", s.Snap, shown))
		c.SetDone()
		id = c.ID()
		return names(c, s.Snap)
	})
	return id, err
}

// PlanInstallFile tells what InstallFile would do. It writes nothing.
func (m *Manager) PlanInstallFile(ctx context.Context, path string, o InstallOptions) (*lifecycle.Plan, error) {
	s, err := m.setupInstall(ctx, path, o)
	if err != nil {
		return nil, err
	}
	if s.From == s.To && !s.From.Unset() {
		return &lifecycle.Plan{Event: s.Event, Snap: s.Snap, From: s.From, To: s.To}, nil
	}
	return m.plan(ctx, s)
}

// setupInstall reads and judges the file. A setup whose From and To are the
// same means that there is nothing to do.
func (m *Manager) setupInstall(ctx context.Context, path string, o InstallOptions) (*snapstate.Setup, error) {
	f, err := snap.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := m.judge(f, o)
	if err != nil {
		return nil, err
	}
	if err := m.idle(info.Name); err != nil {
		return nil, err
	}
	sum, size, err := snap.HashFile(ctx, path)
	if err != nil {
		return nil, err
	}
	s := &snapstate.Setup{Snap: info.Name, Event: lifecycle.Install, File: path}
	s.Rev = &snapstate.Revision{
		YAML: string(f.YAML()), SHA256: sum, Size: size, Installed: time.Now(), Flags: o.Flags,
		Hooks: slices.Sorted(maps.Keys(info.Hooks)),
	}
	rec, err := m.Installed.Lookup(info.Name)
	var missing *snapstate.NotInstalledError
	switch {
	case errors.As(err, &missing):
		s.To = m.Installed.NewLocal(info.Name)
	case err != nil:
		return nil, err
	default:
		if err := m.setupOver(s, rec, info); err != nil {
			return nil, err
		}
	}
	s.Rev.Revision = s.To
	return s, nil
}

// setupOver completes the setup of a file over an installed snap.
func (m *Manager) setupOver(s *snapstate.Setup, rec *snapstate.Record, info *snap.Info) error {
	if !rec.Active {
		return fmt.Errorf("cannot refresh disabled snap %q; enable it first", rec.Name)
	}
	cur := rec.Rev(rec.Current)
	s.Event, s.From = lifecycle.LocalInstall, rec.Current
	if cur.SHA256 == s.Rev.SHA256 && cur.Flags == s.Rev.Flags {
		s.To = s.From
		return nil
	}
	old, err := m.Installed.Info(rec.Name, cur)
	if err != nil {
		return err
	}
	if !info.Epoch.CanRead(old.Epoch) {
		return fmt.Errorf("cannot refresh snap %q: its epoch %s cannot read data of epoch %s", rec.Name, info.Epoch, old.Epoch)
	}
	s.To = snap.Revision(-(rec.LastLocal + 1))
	return nil
}

// judge decides whether the file may be installed at all.
func (m *Manager) judge(f *snap.File, o InstallOptions) (*snap.Info, error) {
	info := f.Info()
	if err := info.Supported(); err != nil {
		return nil, err
	}
	if err := f.CheckFiles(); err != nil {
		return nil, err
	}
	if !o.Dangerous && !o.DevMode {
		return nil, &UnassertedError{File: filepath.Base(o.Name)}
	}
	return info, m.judgeInfo(info, o.Flags)
}
