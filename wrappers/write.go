// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"endured/osutil"
)

// Write makes files and links what they should be and returns the paths, as in
// File, of those that were not, in the given order. One that is right already
// is not touched; one that is not is replaced by renaming over it, never
// removed first, since a reload that misses a unit's file drops a start that
// waits. Missing directories are made.
//
// All content is on stable storage before the first name changes, and all
// names are when Write returns, with one fsync per directory. After an error
// some files may be new; writing what was wanted before takes that back.
func Write(files []File, o Options) (changed []string, err error) {
	var temps []string
	defer func() {
		for _, t := range temps {
			os.Remove(t) // what was renamed is no longer there
		}
	}()
	for _, f := range files {
		same, err := isSame(f, o)
		if err == nil && !same {
			var t string
			t, err = writeTemp(f, o)
			temps = append(temps, t)
			changed = append(changed, f.Path)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot write %s: %w", f.Path, err)
		}
	}
	for n, path := range changed {
		if err := os.Rename(temps[n], o.Dirs.Under(path)); err != nil {
			return changed[:n], errors.Join(fmt.Errorf("cannot write %s: %w", path, err), syncDirs(changed[:n], o))
		}
	}
	return changed, syncDirs(changed, o)
}

// isSame tells whether a file is as wanted.
func isSame(f File, o Options) (bool, error) {
	path := o.Dirs.Under(f.Path)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if f.Link != "" {
		if fi.Mode()&fs.ModeSymlink == 0 {
			return false, nil
		}
		have, err := os.Readlink(path)
		return have == f.Link, err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm() != f.Mode.Perm() || fi.Size() != int64(len(f.Data)) {
		return false, nil
	}
	have, err := os.ReadFile(path)
	return bytes.Equal(have, f.Data), err
}

// writeTemp writes the file under another name beside its own, durably.
func writeTemp(f File, o Options) (name string, err error) {
	path := o.Dirs.Under(f.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	// One fixed name: what a killed daemon left is written over. One change at
	// a time has a snap's files in hand.
	name = filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".snapd~")
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if f.Link != "" {
		return name, os.Symlink(f.Link, name)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, f.Mode.Perm())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(f.Data); err != nil {
		return name, err
	}
	if err := file.Chmod(f.Mode.Perm()); err != nil {
		return name, err
	}
	if volatile(f.Path) {
		return name, nil
	}
	return name, file.Sync()
}

// volatile tells whether a path does not outlive the boot anyway.
func volatile(path string) bool { return strings.HasPrefix(path, "/run/") }

// syncDirs makes the names of files durable, one fsync for each directory.
func syncDirs(paths []string, o Options) error {
	done := map[string]bool{}
	for _, path := range paths {
		dir := filepath.Dir(path)
		if done[dir] || volatile(path) {
			continue
		}
		done[dir] = true
		if err := osutil.SyncDirEntry(o.Dirs.Under(path)); err != nil {
			return err
		}
	}
	return nil
}
