// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// makeUserDirs makes ~/snap/SNAP/{REVISION,common} and points the link
// "current" at the revision. It walks by descriptor, through directories that
// are the user's own and through no symbolic link.
func makeUserDirs(home, snapName, revision string, uid int) error {
	fail := func(err error) error {
		return fmt.Errorf("cannot make the user's data directories of snap %q in %s: %w", snapName, home, err)
	}
	dir, err := unix.Open(home, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	for _, name := range []string{"snap", snapName} {
		next, err := makeDirAt(dir, name, uid)
		unix.Close(dir)
		if err != nil {
			return fail(err)
		}
		dir = next
	}
	defer unix.Close(dir)
	for _, name := range []string{revision, "common"} {
		fd, err := makeDirAt(dir, name, uid)
		if err != nil {
			return fail(err)
		}
		unix.Close(fd)
	}
	if err := linkAt(dir, revision, "current"); err != nil {
		return fail(err)
	}
	return nil
}

// makeDirAt makes and opens a directory of the user's.
func makeDirAt(dir int, name string, uid int) (int, error) {
	if err := unix.Mkdirat(dir, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && int(st.Uid) != uid {
		err = fmt.Errorf("%s belongs to uid %d", name, st.Uid)
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// linkAt makes a symbolic link, replacing one that points elsewhere.
func linkAt(dir int, target, name string) error {
	buf := make([]byte, 256)
	if n, err := unix.Readlinkat(dir, name, buf); err == nil && string(buf[:n]) == target {
		return nil
	}
	tmp := fmt.Sprintf(".%s.%d", name, os.Getpid())
	if err := unix.Symlinkat(target, dir, tmp); err != nil {
		return &os.LinkError{Op: "symlink", Old: target, New: name, Err: err}
	}
	if err := unix.Renameat(dir, tmp, dir, name); err != nil {
		_ = unix.Unlinkat(dir, tmp, 0)
		return &os.LinkError{Op: "rename", Old: tmp, New: name, Err: err}
	}
	return nil
}
