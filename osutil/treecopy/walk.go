// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Entry is what Walk has come to. It is good for as long as the visit.
type Entry struct {
	Stat unix.Statx_t // of the entry itself, also if it is a link
	dir  int
	name string
	at   *descent
}

// Path is relative to where the walk began; "" is that directory itself.
func (e *Entry) Path() string {
	if e.name == "." {
		return ""
	}
	return e.at.path(e.name)
}

// IsDir and IsRegular tell what kind of file it is.
func (e *Entry) IsDir() bool { return e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular is explained at IsDir.
func (e *Entry) IsRegular() bool { return e.Stat.Mode&unix.S_IFMT == unix.S_IFREG }

// Immutable tells whether the file system says that it has the flag. One that
// does not tell says no.
func (e *Entry) Immutable() bool { return e.Stat.Attributes&unix.STATX_ATTR_IMMUTABLE != 0 }

func (e *Entry) id() fileID {
	return fileID{unix.Mkdev(e.Stat.Dev_major, e.Stat.Dev_minor), e.Stat.Ino}
}

// SetImmutable sets or clears the entry's immutable flag and tells whether it
// had been different. What the name stands for by now must be what was visited,
// else the error is unix.ESTALE.
func (e *Entry) SetImmutable(on bool) (changed bool, err error) {
	return setImmutableAt(e.dir, e.name, on, &e.Stat)
}

// Walk visits the directory root and everything below it, parents before what
// they hold, through no symbolic link and into no other mount. A directory is
// listed after it was visited. What vanishes meanwhile is left out, and so is a
// directory that cannot be entered. An error of a visit ends the walk.
func Walk(ctx context.Context, root string, visit func(*Entry) error) error {
	fd, err := openRoot(root)
	if err != nil {
		return err
	}
	d, err := newDescent(fd)
	if err != nil {
		return err
	}
	defer d.close()
	w := walker{d: d, visit: visit}
	e := Entry{dir: fd, name: ".", at: d}
	if err := statxAt(fd, ".", &e.Stat); err != nil {
		return err
	}
	if err := visit(&e); err != nil {
		return err
	}
	if err := w.enter(fd); err != nil {
		return err
	}
	for len(w.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

type walker struct {
	d     *descent
	visit func(*Entry) error
	todo  [][]string // names of each directory on the way that are not done
}

func (w *walker) enter(fd int) error {
	names, err := list(fd)
	if err != nil {
		return err
	}
	w.todo = append(w.todo, names)
	return nil
}

func (w *walker) step() error {
	top := len(w.todo) - 1
	if len(w.todo[top]) == 0 {
		w.todo = w.todo[:top]
		return w.d.pop()
	}
	name := w.todo[top][0]
	w.todo[top] = w.todo[top][1:]
	dir, err := w.d.fd()
	if err != nil {
		return err
	}
	e := Entry{dir: dir, name: name, at: w.d}
	if statxAt(dir, name, &e.Stat) != nil {
		return nil
	}
	if e.IsDir() && e.Stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	if err := w.visit(&e); err != nil || !e.IsDir() {
		return err
	}
	w.d.push(name)
	fd, err := w.d.fd()
	if err != nil {
		w.d.drop()
		return nil
	}
	return w.enter(fd)
}

func statxAt(dir int, name string, st *unix.Statx_t) error {
	return unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS, st)
}

// Tree is a directory whose files are reached beneath it only.
type Tree struct{ fd int }

// OpenTree opens a directory; the last element of path must not be a link.
func OpenTree(path string) (*Tree, error) {
	fd, err := openRoot(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	return &Tree{fd}, nil
}

// Close lets go of it.
func (t *Tree) Close() { unix.Close(t.fd) }

// Stat describes the file at name, a relative path that holds no link.
func (t *Tree) Stat(name string) (unix.Statx_t, error) {
	var st unix.Statx_t
	fd, err := openBeneath(t.fd, name, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st)
	return st, err
}

// SetImmutable sets or clears the immutable flag of the file at name, which
// must be the one that was described, and tells whether it had been different.
// Should it have got another name by then, which may lie elsewhere, the flag is
// not set and the error is unix.EMLINK.
func (t *Tree) SetImmutable(name string, on bool, want *unix.Statx_t) (changed bool, err error) {
	return setImmutableAt(t.fd, name, on, want)
}

// CanFlag probes, with a file that never has a name, what the immutable flag
// does to files in this directory: whether it keeps them from being opened for
// writing, and from being written to by who has them open already.
func (t *Tree) CanFlag() (opens, writes bool) {
	fd, err := unix.Openat(t.fd, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false, false
	}
	defer unix.Close(fd)
	if set, err := setImmutable(fd, true); !set || err != nil {
		return false, false
	}
	defer setImmutable(fd, false)
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(again)
	}
	_, werr := unix.Write(fd, []byte{0})
	return err == unix.EPERM, werr == unix.EPERM
}

// setImmutableAt goes by way of a descriptor that opens nothing: a device or a
// FIFO may have come in the place of what was seen.
func setImmutableAt(dir int, name string, on bool, want *unix.Statx_t) (bool, error) {
	path, err := openBeneath(dir, name, unix.O_PATH)
	if err != nil {
		return false, err
	}
	defer unix.Close(path)
	var st unix.Statx_t
	if err := unix.Statx(path, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return false, err
	}
	kind := st.Mode & unix.S_IFMT
	if st.Ino != want.Ino || st.Dev_major != want.Dev_major || st.Dev_minor != want.Dev_minor || kind != want.Mode&unix.S_IFMT {
		return false, unix.ESTALE
	}
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return false, unix.EOPNOTSUPP
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	changed, err := setImmutable(fd, on)
	if err != nil || !changed || !on || kind == unix.S_IFDIR {
		return changed, err
	}
	// an immutable file gets no further name, so this look is the last word
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err == nil && st.Nlink > want.Nlink {
		err = unix.EMLINK
	}
	if err != nil {
		_, cerr := setImmutable(fd, false)
		return false, errors.Join(err, cerr)
	}
	return true, nil
}

func setImmutable(fd int, on bool) (changed bool, err error) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&flagImmutable != 0 == on {
		return false, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags^flagImmutable)); err != nil {
		return false, err
	}
	return true, nil
}
