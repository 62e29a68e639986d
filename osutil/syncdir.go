// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// File is what a file should be.
type File struct {
	Data []byte
	// Mode holds permission bits; the umask is not applied.
	Mode fs.FileMode
}

// SyncDir makes the files in dir whose names match glob (path/filepath.Match)
// exactly those in want, which is keyed by name. It returns, sorted, the names
// that were written and those that were removed.
//
// A file is replaced by renaming over it, never removed and rewritten: PID 1
// drops a waiting start at a reload that finds the file missing. Files that
// are as wanted keep their inode. All new content is written before the first
// name changes; on an error what was there is put back, by its old inode.
// Directories that match are left alone; every other kind of file that matches
// belongs to the caller. A missing dir is made, 0755, if anything is wanted.
func SyncDir(dir, glob string, want map[string]File) (changed, removed []string, err error) {
	s := dirSync{dir: dir, glob: glob}
	defer s.cleanUp()
	if err := s.plan(want); err != nil {
		return nil, nil, fmt.Errorf("cannot synchronise %s: %w", dir, err)
	}
	if err := s.apply(); err != nil {
		return nil, nil, fmt.Errorf("cannot synchronise %s: %w", dir, errors.Join(err, s.restore()))
	}
	return s.changed, s.removed, nil
}

type dirSync struct {
	dir, glob        string
	changed, removed []string
	fresh            map[string]string // name -> temporary with the new content
	saved            map[string]string // name -> temporary that is the old file
	replaced         []string          // names that are no longer what they were
	stale            []string          // temporaries of a run that was killed
}

func (s *dirSync) path(name string) string { return filepath.Join(s.dir, name) }

// plan finds out what differs and writes the new content beside it.
func (s *dirSync) plan(want map[string]File) error {
	for name := range want {
		ok, err := filepath.Match(s.glob, name)
		if err != nil {
			return err
		}
		if !ok || strings.ContainsRune(name, '/') {
			return fmt.Errorf("file name %q does not match %q", name, s.glob)
		}
	}
	if err := s.scan(want); err != nil {
		return err
	}
	if len(want) > 0 {
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			return err
		}
	}
	s.fresh = make(map[string]string)
	s.saved = make(map[string]string)
	for name, f := range want {
		same, err := s.same(name, f)
		if err != nil {
			return err
		}
		if same {
			continue
		}
		tmp, err := writeTemp(s.path(name), f.Data, f.Mode, false)
		if err != nil {
			return err
		}
		s.fresh[name] = tmp
		s.changed = append(s.changed, name)
	}
	slices.Sort(s.changed)
	slices.Sort(s.removed)
	return nil
}

func (s *dirSync) scan(want map[string]File) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if base, ok := tempFor(e.Name()); ok {
			if m, _ := filepath.Match(s.glob, base); m {
				s.stale = append(s.stale, e.Name())
				continue
			}
		}
		ok, err := filepath.Match(s.glob, e.Name())
		if err != nil {
			return err
		}
		if _, wanted := want[e.Name()]; ok && !wanted && !e.IsDir() {
			s.removed = append(s.removed, e.Name())
		}
	}
	return nil
}

// same tells whether the file is as wanted already.
func (s *dirSync) same(name string, want File) (bool, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return false, nil
	case err != nil:
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return false, fmt.Errorf("%s is a directory", s.path(name))
	}
	if info.Mode() != want.Mode&fs.ModePerm || info.Size() != int64(len(want.Data)) {
		return false, nil
	}
	have, err := io.ReadAll(f)
	if err != nil {
		return false, err
	}
	return bytes.Equal(have, want.Data), nil
}

func (s *dirSync) apply() error {
	for _, name := range s.changed {
		backup := tempName(s.path(name))
		err := os.Link(s.path(name), backup)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			s.saved[name] = backup
		}
		if err := os.Rename(s.fresh[name], s.path(name)); err != nil {
			return err
		}
		delete(s.fresh, name)
		s.replaced = append(s.replaced, name)
	}
	for _, name := range s.removed {
		backup := tempName(s.path(name))
		if err := os.Rename(s.path(name), backup); err != nil {
			return err
		}
		s.saved[name] = backup
		s.replaced = append(s.replaced, name)
	}
	return nil
}

func (s *dirSync) restore() error {
	var errs []error
	for _, name := range slices.Backward(s.replaced) {
		backup, ok := s.saved[name]
		if !ok {
			errs = append(errs, os.Remove(s.path(name)))
			continue
		}
		if err := os.Rename(backup, s.path(name)); err != nil {
			errs = append(errs, err)
		}
		// A backup that could not be put back is the only copy: it stays.
		delete(s.saved, name)
	}
	return errors.Join(errs...)
}

func (s *dirSync) cleanUp() {
	for _, tmp := range s.fresh {
		os.Remove(tmp)
	}
	for _, tmp := range s.saved {
		os.Remove(tmp)
	}
	for _, name := range s.stale {
		os.Remove(s.path(name))
	}
}
