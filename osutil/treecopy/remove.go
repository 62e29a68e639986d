// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Remove deletes the file or directory at path and all below it, however deep,
// by descriptor: no symbolic link is followed, whatever a program does in the
// tree meanwhile, and a mount in it is an error (unix.EXDEV). Files that are
// flagged immutable or append-only are deleted too. It is no error if nothing
// is there. On return that is on stable storage: what is forgotten then has no
// other chance to go.
func Remove(ctx context.Context, path string) error {
	dir, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	defer unix.Close(dir)
	err = removeAt(ctx, dir, filepath.Base(path))
	if err == nil {
		err = unix.Fsync(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	return nil
}

// removeAt is Remove for a name in an open directory. Directories further
// down are moved up into the one that is removed, so three descriptors do for
// any depth.
func removeAt(ctx context.Context, dir int, name string) error {
	err := unlink(dir, name, 0)
	if err != unix.EISDIR {
		return err
	}
	r := remover{ctx: ctx}
	if r.top, err = openToRemove(dir, name); err != nil {
		return absent(err)
	}
	defer unix.Close(r.top)
	for {
		more, err := r.empty()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		// Somebody may have put something there in the meantime.
		if err := unlink(dir, name, unix.AT_REMOVEDIR); err != unix.ENOTEMPTY {
			return err
		}
	}
}

type remover struct {
	ctx context.Context
	top int
	n   int // for fresh names
}

// empty deletes the files in top and, of the directories in it, the files,
// moving the directories of these up. It reports whether there was a directory.
func (r *remover) empty() (more bool, err error) {
	names, err := list(r.top)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if err := r.ctx.Err(); err != nil {
			return false, err
		}
		err := unlink(r.top, name, 0)
		if err == unix.EISDIR {
			more = true
			err = r.level(name)
		}
		if err != nil {
			return false, err
		}
	}
	return more, nil
}

func (r *remover) level(name string) error {
	fd, err := openToRemove(r.top, name)
	if err != nil {
		return absent(err)
	}
	defer unix.Close(fd)
	names, err := list(fd)
	if err != nil {
		return err
	}
	for _, n := range names {
		err := unlink(fd, n, 0)
		if err == unix.EISDIR {
			err = r.lift(fd, n)
		}
		if err != nil {
			return err
		}
	}
	err = unlink(r.top, name, unix.AT_REMOVEDIR)
	if err == unix.ENOTEMPTY || err == unix.ENOTDIR {
		return nil // it is met again in the next round
	}
	return err
}

// lift moves a directory into top, or removes it where it is if it is empty.
func (r *remover) lift(dir int, name string) error {
	if unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) == nil {
		return nil
	}
	for again := false; ; {
		r.n++
		err := unix.Renameat2(dir, name, r.top, ".removing-"+strconv.Itoa(r.n), unix.RENAME_NOREPLACE)
		switch err {
		case unix.EEXIST:
			continue
		case unix.EPERM:
			if !unflag(dir, name) {
				return err
			}
			continue
		case unix.EACCES:
			// Only who may write to a directory can give it another parent.
			fd, oerr := openToRemove(dir, name)
			if oerr != nil {
				return absent(oerr)
			}
			unix.Close(fd)
			if again {
				return err
			}
			again = true
			continue
		}
		return absent(err)
	}
}

// unlink removes one name; flags as for unlinkat. That it is not there is no
// error; a directory that is not meant to be one is unix.EISDIR.
func unlink(dir int, name string, flags int) error {
	err := unix.Unlinkat(dir, name, flags)
	if err == unix.EPERM && unflag(dir, name) {
		err = unix.Unlinkat(dir, name, flags)
	}
	return absent(err)
}

func absent(err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// openToRemove opens a directory whose flags and mode must not be in the way.
func openToRemove(dir int, name string) (int, error) {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.EACCES {
		var path int
		if path, err = openBeneath(dir, name, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return -1, err
		}
		defer unix.Close(path)
		if unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", path), 0o700) != nil {
			return -1, unix.EACCES
		}
		fd, err = openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	if err == nil {
		clearFlags(fd)
		widen(fd)
	}
	return fd, err
}

// widen lets a user who is not root change an own directory. If it does not,
// what needs it fails.
func widen(dir int) {
	var st unix.Stat_t
	if unix.Geteuid() != 0 && unix.Fstat(dir, &st) == nil && st.Mode&0o700 != 0o700 {
		_ = unix.Fchmod(dir, 0o700)
	}
}

// unflag takes the immutable and append-only flags off the file and off its
// directory and tells whether there were any.
func unflag(dir int, name string) bool {
	any := clearFlags(dir)
	fd, err := openBeneath(dir, name, unix.O_RDONLY)
	if err != nil {
		return any
	}
	defer unix.Close(fd)
	return clearFlags(fd) || any
}

// flagJournalData is an inode flag, from linux/fs.h.
const flagJournalData = 0x4000

func clearFlags(fd int) bool {
	was, now, err := setFlags(fd, 0)
	return err == nil && was != now
}
