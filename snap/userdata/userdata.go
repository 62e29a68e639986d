// SPDX-License-Identifier: Apache-2.0

// Package userdata makes the directories in which a snap keeps what belongs to
// one user: HOME/snap/SNAP/REVISION, which begins as a copy of what the user
// had with the revision before, and HOME/snap/SNAP/common.
//
// It does so as that user. Programs of the snap can write there too, and a
// confined one nowhere else, so every directory is reached from the descriptor
// of the one above, belongs to the user, and is no symbolic link.
package userdata

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/osutil/treecopy"
	"endured/snap"
)

// User is whose directories are made: the user that this process runs as.
type User struct {
	Home string
	UID  int
}

// CopyError says that what the user had with an earlier revision could not be
// copied. There is no directory for the new one then.
type CopyError struct {
	Snap     string
	From, To snap.Revision
	Err      error
}

func (e *CopyError) Error() string {
	return fmt.Sprintf("cannot copy the user's data of snap %q from revision %s to %s: %v", e.Snap, e.From, e.To, e.Err)
}

// Unwrap returns the reason.
func (e *CopyError) Unwrap() error { return e.Err }

// Make makes what a revision of a snap needs and points the link "current"
// beside it at the revision. A revision's directory that is there stays as it
// is; a new one is a copy of the one that "current" points at, else of the
// newest. Of several processes that make the same, one copies and the others
// wait for it, until ctx ends. A failure to copy is a *CopyError.
func (u User) Make(ctx context.Context, snapName string, rev snap.Revision) error {
	return u.in(snapName, func(d *dir) error {
		if err := d.make(ctx, rev, d.source); err != nil {
			return err
		}
		return d.link(rev.String(), "current")
	})
}

// MakeFrom is Make for who knows the revision to copy from, if there is a
// directory of it, and leaves the link alone.
func (u User) MakeFrom(ctx context.Context, snapName string, rev, from snap.Revision) error {
	return u.in(snapName, func(d *dir) error {
		source := func(snap.Revision) (snap.Revision, error) {
			if owned, ok := d.owned(from.String()); ok {
				return owned, nil
			}
			return 0, nil
		}
		return d.make(ctx, rev, source)
	})
}

// in does something in HOME/snap/SNAP and gives its error the form that callers
// see.
func (u User) in(snapName string, do func(d *dir) error) error {
	d, err := u.open(snapName)
	if err == nil {
		defer unix.Close(d.fd)
		err = d.shown(do(d))
	}
	var copying *CopyError
	if err == nil || errors.As(err, &copying) {
		return err
	}
	return fmt.Errorf("cannot make the user's data directories of snap %q in %s: %w", snapName, u.Home, err)
}

// dir is HOME/snap/SNAP, open.
type dir struct {
	User
	snap string
	fd   int // only a path
}

func (u User) open(snapName string) (*dir, error) {
	fd, err := unix.Open(u.Home, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"snap", snapName} {
		next, err := u.makeDir(fd, name)
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
		fd = next
	}
	return &dir{u, snapName, fd}, nil
}

// make makes what a revision needs. source tells where the data for a new one
// comes from, 0 for nowhere.
func (d *dir) make(ctx context.Context, rev snap.Revision, source func(snap.Revision) (snap.Revision, error)) error {
	if err := d.revision(ctx, rev, source); err != nil {
		return err
	}
	for _, name := range []string{rev.String(), "common"} {
		fd, err := d.makeDir(d.fd, name)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	return nil
}

// at is a path that leads to d whatever is renamed, and through no link but the
// kernel's own.
func (d *dir) at(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", d.fd, name) }

// revision makes the directory of a revision if there is none.
func (d *dir) revision(ctx context.Context, rev snap.Revision, source func(snap.Revision) (snap.Revision, error)) error {
	if d.has(rev.String()) {
		return nil
	}
	lock, err := osutil.TakeLock(ctx, d.at("."), osutil.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if d.has(rev.String()) {
		return nil // the one that had the lock made it
	}
	from, err := source(rev)
	if err != nil || from.Unset() {
		return err
	}
	if err := d.copy(ctx, from, rev); err != nil {
		return &CopyError{d.snap, from, rev, d.shown(err)}
	}
	return nil
}

// renamed is an error that names files as the user knows them.
type renamed struct {
	text string
	error
}

func (r *renamed) Error() string { return r.text }
func (r *renamed) Unwrap() error { return r.error }

// shown makes an error say where a file is, not how it was reached.
func (d *dir) shown(err error) error {
	if err == nil {
		return nil
	}
	var copying *CopyError
	if errors.As(err, &copying) {
		return err
	}
	where := filepath.Join(d.Home, "snap", d.snap) + "/"
	return &renamed{strings.ReplaceAll(err.Error(), d.at(""), where), err}
}

func (d *dir) copy(ctx context.Context, from, to snap.Revision) error {
	c := treecopy.New(d.at(from.String()), d.at(to.String()), treecopy.Options{})
	_, err := c.Differences(ctx) // from nothing: all of it
	if err == nil {
		err = c.Complete(ctx)
	}
	if err != nil {
		return errors.Join(err, c.Abandon())
	}
	return nil
}

// has tells whether there is something by that name; what it is, makeDir tells.
func (d *dir) has(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// source finds the revision that the user's data for rev comes from, 0 if there
// is none, and removes what interrupted copies left.
func (d *dir) source(rev snap.Revision) (snap.Revision, error) {
	entries, err := os.ReadDir(d.at("."))
	if err != nil {
		return 0, err
	}
	var newest snap.Revision
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), ".copying") {
			// what cannot be removed is in the way only if it has this
			// revision's name, and then the copy says so
			_ = treecopy.Remove(context.Background(), d.at(e.Name()))
		}
		r, ok := d.owned(e.Name())
		if ok && r != rev && (newest.Unset() || newer(r, newest, rev)) {
			newest = r
		}
	}
	target, err := os.Readlink(d.at("current"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
		return 0, err
	}
	if r, ok := d.owned(target); ok && r != rev {
		return r, nil
	}
	return newest, nil
}

// owned tells whether the name is that of a revision's directory of the user's.
func (d *dir) owned(name string) (snap.Revision, bool) {
	rev, err := snap.ParseRevision(name)
	if err != nil {
		return 0, false
	}
	var st unix.Stat_t
	err = unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return rev, err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && int(st.Uid) == d.UID
}

// newer tells whether a is newer than b. Local revisions (below zero) and those
// of a store are counted apart: those that are counted as rev is come first.
func newer(a, b, rev snap.Revision) bool {
	if a.Local() != b.Local() {
		return a.Local() == rev.Local()
	}
	return max(a, -a) > max(b, -b)
}

// makeDir makes and opens a directory of the user's.
func (u User) makeDir(parent int, name string) (int, error) {
	if err := unix.Mkdirat(parent, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && int(st.Uid) != u.UID {
		unix.Close(fd)
		return -1, fmt.Errorf("%s belongs to uid %d", name, st.Uid)
	}
	return fd, nil
}

// link makes a symbolic link, replacing one that points elsewhere.
func (d *dir) link(target, name string) error {
	if have, err := os.Readlink(d.at(name)); err == nil && have == target {
		return nil
	}
	tmp := fmt.Sprintf(".%s.%x", name, rand.Uint64())
	if err := unix.Symlinkat(target, d.fd, tmp); err != nil {
		return &os.LinkError{Op: "symlink", Old: target, New: name, Err: err}
	}
	if err := unix.Renameat(d.fd, tmp, d.fd, name); err != nil {
		_ = unix.Unlinkat(d.fd, tmp, 0)
		return &os.LinkError{Op: "rename", Old: tmp, New: name, Err: err}
	}
	return nil
}
