// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"errors"

	"golang.org/x/sys/unix"
)

// keepOpen is how many directories of a descent are open at once; those above
// are opened again on the way back. So neither the length of a path nor the
// number of descriptors bounds the depth of a tree.
const keepOpen = 64

// errMoved is a directory that is no longer where it was entered.
var errMoved = errors.New("the directory was moved while it was read")

// fileID names a file on this host while it exists.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }

// openBeneath opens one path element in a directory: never through a symbolic
// link, never in another mount, and without waiting for a FIFO's other end.
func openBeneath(dir int, name string, flags int) (int, error) {
	if flags&unix.O_PATH == 0 { // which opens nothing, and goes with no other flag
		flags |= unix.O_NONBLOCK
	}
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && how.Flags&unix.O_NOATIME != 0:
			how.Flags &^= unix.O_NOATIME // the files of others, without CAP_FOWNER
		default:
			return fd, err
		}
	}
}

// reading opens without leaving a trace in the access time.
const reading = unix.O_RDONLY | unix.O_NOATIME

// descent is the way from a root down to one directory below it, by
// descriptors. The open ones are the root and an unbroken run that begins at
// most keepOpen above the lowest.
type descent struct{ steps []step }

type step struct {
	name string
	fd   int // -1 while closed
	id   fileID
}

// newDescent starts at a directory, whose descriptor it owns from now on.
func newDescent(fd int) (*descent, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &descent{[]step{{fd: fd, id: idOf(&st)}}}, nil
}

func (d *descent) root() int { return d.steps[0].fd }

// push goes down one step; the directory is opened when fd is called.
func (d *descent) push(name string) { d.steps = append(d.steps, step{name: name, fd: -1}) }

// fd is the current directory's descriptor. On an error the step that cannot
// be opened is still there.
func (d *descent) fd() (int, error) {
	top := len(d.steps) - 1
	i := top
	for d.steps[i].fd < 0 {
		i--
	}
	for ; i < top; i++ {
		if err := d.open(i + 1); err != nil {
			return -1, err
		}
	}
	return d.steps[top].fd, nil
}

// open opens step i below step i-1, which is open, and closes the one that is
// too far above.
func (d *descent) open(i int) error {
	s := &d.steps[i]
	fd, err := openBeneath(d.steps[i-1].fd, s.name, reading|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	s.fd, s.id = fd, idOf(&st)
	if far := i - keepOpen; far > 0 && d.steps[far].fd >= 0 {
		unix.Close(d.steps[far].fd)
		d.steps[far].fd = -1
	}
	return nil
}

// pop goes up one step. If the directory above had been closed and is not the
// parent any more, the error is errMoved.
func (d *descent) pop() error {
	top := len(d.steps) - 1
	s := d.steps[top]
	d.steps = d.steps[:top]
	if s.fd < 0 {
		return nil
	}
	defer unix.Close(s.fd)
	if top == 0 || d.steps[top-1].fd >= 0 {
		return nil
	}
	up := &d.steps[top-1]
	// ".." leaves the directory, so its identity is what is checked.
	fd, err := unix.Openat(s.fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	if idOf(&st) != up.id {
		unix.Close(fd)
		return errMoved
	}
	up.fd = fd
	return nil
}

// drop forgets the last step, which could not be opened.
func (d *descent) drop() { d.steps = d.steps[:len(d.steps)-1] }

func (d *descent) close() {
	for _, s := range d.steps {
		if s.fd >= 0 {
			unix.Close(s.fd)
		}
	}
	d.steps = nil
}

// path is name in the current directory, relative to the root.
func (d *descent) path(name string) string {
	n := len(name)
	for _, s := range d.steps[1:] {
		n += len(s.name) + 1
	}
	b := make([]byte, 0, n)
	for _, s := range d.steps[1:] {
		b = append(append(b, s.name...), '/')
	}
	return string(append(b, name...))
}

// list returns the names in a directory.
func list(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	var names []string
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOENT {
			return nil, nil // the directory was removed
		}
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}
