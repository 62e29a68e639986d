// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"cmp"
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

// ID names the file on this host while it exists.
func (e *Entry) ID() FileID { return FileID{statxID(&e.Stat)} }

// FileID names a file on this host while it exists.
type FileID struct{ fileID }

// IDOf is that of a described file.
func IDOf(st *unix.Statx_t) FileID { return FileID{statxID(st)} }

func statxID(st *unix.Statx_t) fileID {
	return fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
}

// IsAppendOnly tells whether the file system says that it has that flag.
func (e *Entry) IsAppendOnly() bool { return e.Stat.Attributes&unix.STATX_ATTR_APPEND != 0 }

// SetFlags changes the flags of the entry. The stamp is nil if they were like
// that before. What the name stands for by now must be what was visited, else
// the error is unix.ESTALE; see also Tree.SetFlags.
func (e *Entry) SetFlags(to Flags) (*Stamp, error) { return setFlagsAt(e.dir, e.name, to, &e.Stat) }

// Flags of an inode, as in linux/fs.h.
type Flags uint32

// What SetFlags can leave a file with: none of the two flags, or one, or both.
const (
	NoFlags    Flags = 0
	Immutable  Flags = 0x10
	AppendOnly Flags = 0x20
	// Frozen is what keeps everybody off a file. Being immutable alone would let
	// it be mapped anew, shared and writable, through a descriptor that is open
	// for writing, and the first store into that would kill the process (SIGBUS).
	// One that is append-only cannot be mapped so (EACCES).
	Frozen = Immutable | AppendOnly
)

// of is what there is to be set on a kind of file: a directory that is
// immutable needs nothing more.
func (f Flags) of(kind uint32) uint32 {
	if f == Frozen && kind == unix.S_IFDIR {
		f = Immutable
	}
	return uint32(f)
}

// Stamp says that the change time of an inode was moved by a flag alone: its
// content has not changed in between.
type Stamp struct {
	id            fileID
	before, after int64 // ns since 1970
}

// Then is the stamp of both moves, the next one being the later.
func (s *Stamp) Then(next *Stamp) *Stamp {
	if s == nil || next == nil {
		return cmp.Or(s, next)
	}
	both := *next
	if both.before = s.before; next.before != s.after { // it was changed in between
		both.before = 0
	}
	return &both
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

// SetFlags changes the flags of the file at name, which must be the one that
// was described. Should it have got another name by then, which may lie
// elsewhere, nothing is set and the error is unix.EMLINK. The stamp is nil if
// the flags were like that before.
func (t *Tree) SetFlags(name string, to Flags, want *unix.Statx_t) (*Stamp, error) {
	return setFlagsAt(t.fd, name, to, want)
}

// CanFlag probes, with a file that never has a name, what the immutable flag
// does to files in this directory: whether it keeps them from being opened for
// writing, and from being written to by who has them open already.
func (t *Tree) CanFlag() (opens, writes bool) {
	const flags = unix.O_TMPFILE | unix.O_RDWR | unix.O_CLOEXEC
	fd, err := unix.Openat(t.fd, ".", flags, 0o600)
	if err == unix.EPERM { // it has the flag itself, as after an earlier seal
		var here, up unix.Stat_t
		if unix.Fstat(t.fd, &here) == nil && unix.Fstatat(t.fd, "..", &up, 0) == nil && here.Dev == up.Dev {
			fd, err = unix.Openat(t.fd, "..", flags, 0o600)
		}
	}
	if err != nil {
		return false, false
	}
	defer unix.Close(fd)
	if was, now, err := setFlags(fd, uint32(Frozen)); was == now || err != nil {
		return false, false
	}
	defer setFlags(fd, 0)
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(again)
	}
	_, werr := unix.Write(fd, []byte{0})
	return err == unix.EPERM, werr == unix.EPERM
}

// setFlagsAt goes by way of a descriptor that opens nothing: a device or a
// FIFO may have come in the place of what was seen.
func setFlagsAt(dir int, name string, to Flags, want *unix.Statx_t) (*Stamp, error) {
	path, err := openBeneath(dir, name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(path)
	var before, after unix.Stat_t
	if err := unix.Fstat(path, &before); err != nil {
		return nil, err
	}
	kind := before.Mode & unix.S_IFMT
	if (fileID{uint64(before.Dev), before.Ino}) != statxID(want) || kind != uint32(want.Mode)&unix.S_IFMT {
		return nil, unix.ESTALE
	}
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil, unix.EOPNOTSUPP
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	was, now, err := setFlags(fd, to.of(kind))
	if err != nil || was == now {
		return nil, err
	}
	err = unix.Fstat(fd, &after)
	// an immutable file gets no further name, so this look is the last word
	if err == nil && to&Immutable != 0 && kind == unix.S_IFREG && after.Nlink > uint64(want.Nlink) {
		err = unix.EMLINK
	}
	if err != nil {
		_, _, cerr := setFlags(fd, was)
		return nil, errors.Join(err, cerr)
	}
	s := &Stamp{id: idOf(&after), after: after.Ctim.Nano()}
	if before.Mtim == after.Mtim && before.Size == after.Size { // nobody wrote between the two looks
		s.before = before.Ctim.Nano()
	}
	return s, nil
}

// setFlags leaves a file with these of the two flags, and returns those that it
// had and has. All are changed at once.
func setFlags(fd int, to uint32) (was, now uint32, err error) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	was = flags & uint32(Frozen)
	if err != nil || was == to {
		return was, was, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^uint32(Frozen)|to)); err != nil {
		return was, was, err
	}
	return was, to, nil
}
