// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	staging, err := stage(files, o)
	defer unstage(staging, o) // and not what a Swap keeps of others
	if err != nil {
		return nil, err
	}
	changed, err = swap(staging, o)
	return changed, errors.Join(err, syncDirs(changed, o))
}

// Swap is a Write that can be taken back on a full disk: what a file held
// before waits where Stage would put it, until Unstage, and so a Swap of that
// needs no room.
func Swap(files []File, o Options) (changed []string, err error) {
	changed, err = SwapNames(files, o)
	return changed, errors.Join(err, syncDirs(changed, o))
}

// SwapNames is a Swap after which the names are not on stable storage yet.
func SwapNames(files []File, o Options) (changed []string, err error) {
	staging, err := stage(files, o)
	if err != nil {
		return nil, err
	}
	return swap(staging, o)
}

// swap gives each path what is staged for it, and returns those that have it.
func swap(paths []string, o Options) (changed []string, err error) {
	for n, path := range paths {
		if err := exchange(staged(path, o), o.Dirs.Under(path)); err != nil {
			return paths[:n], fmt.Errorf("cannot write %s: %w", path, err)
		}
	}
	return paths, nil
}

// exchange gives each of two files the name of the other. Without a second one,
// or where the file system cannot do that, the first gets the second's name.
func exchange(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if slices.Contains([]error{unix.ENOENT, unix.EINVAL, unix.ENOSYS}, err) {
		return os.Rename(from, to)
	}
	return err
}

// Withdraw takes files away, which Swap brings back without room on the disk,
// until Unstage. It returns the paths of those that were there.
func Withdraw(files []File, o Options) (removed []string, err error) {
	for _, f := range files {
		switch err := os.Rename(o.Dirs.Under(f.Path), staged(f.Path, o)); {
		case err == nil:
			removed = append(removed, f.Path)
		case !errors.Is(err, fs.ErrNotExist):
			return removed, fmt.Errorf("cannot remove %s: %w", f.Path, err)
		}
	}
	return removed, nil
}

// Stage does what of Write can fail for want of space, and what takes time: the
// content of every file that will change is on stable storage, beside its place
// and under a name that nobody reads. A Write of the same files renames these;
// Unstage removes them.
func Stage(files []File, o Options) error {
	if _, err := stage(files, o); err != nil {
		Unstage(files, o)
		return err
	}
	return nil
}

// Unstage removes what Stage, Swap and Withdraw left of these files. A daemon
// that was killed in between may have left some.
func Unstage(files []File, o Options) {
	for _, f := range files {
		unstage([]string{f.Path}, o)
	}
}

func unstage(paths []string, o Options) {
	for _, path := range paths {
		os.Remove(staged(path, o))
	}
}

// stage returns the paths of the files that are not as wanted. Beside each now
// is what is; with an error, beside some of them.
func stage(files []File, o Options) (changed []string, err error) {
	for _, f := range files {
		same, err := isSame(f, o.Dirs.Under(f.Path))
		if err == nil && !same {
			err = writeTemp(f, o)
			changed = append(changed, f.Path)
		}
		if err != nil {
			return changed, fmt.Errorf("cannot write %s: %w", f.Path, err)
		}
	}
	return changed, nil
}

// staged is where the content of a file waits. One fixed name: what a killed
// daemon left is found again. One change at a time has a snap's files in hand.
func staged(path string, o Options) string {
	path = o.Dirs.Under(path)
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".snapd~")
}

// isSame tells whether what is at path is the file that is wanted.
func isSame(f File, path string) (bool, error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if fi.IsDir() {
		return false, &fs.PathError{Op: "replace", Path: path, Err: unix.EISDIR}
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

// writeTemp writes the file under its staged name, durably. What is there
// already is not written again, but synced: its writer may have been killed
// before it did.
func writeTemp(f File, o Options) (err error) {
	name := staged(f.Path, o)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	there, err := isSame(f, name)
	if err != nil {
		return err
	}
	if !there {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f.Link != "" {
			return os.Symlink(f.Link, name)
		}
		if err := create(name, f); err != nil {
			return err
		}
	}
	if f.Link != "" || volatile(f.Path) {
		return nil
	}
	return syncFile(name)
}

func create(name string, f File) (err error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, f.Mode.Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(f.Data); err != nil {
		return err
	}
	return file.Chmod(f.Mode.Perm())
}

func syncFile(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
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
