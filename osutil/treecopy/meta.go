// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const capability = "security.capability"

// attrs reaches the extended attributes of one file: of an open one by its
// descriptor, of one that cannot be opened (a link, a FIFO) by its name in an
// open directory.
type attrs struct {
	fd   int
	path string // "" for a descriptor
}

func fdAttrs(fd int) attrs { return attrs{fd: fd} }

func nameAttrs(dir int, name string) attrs {
	return attrs{path: fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)}
}

func (a attrs) rawList(buf []byte) (int, error) {
	if a.path == "" {
		return unix.Flistxattr(a.fd, buf)
	}
	return unix.Llistxattr(a.path, buf)
}

func (a attrs) rawGet(name string, buf []byte) (int, error) {
	if a.path == "" {
		return unix.Fgetxattr(a.fd, name, buf)
	}
	return unix.Lgetxattr(a.path, name, buf)
}

func (a attrs) set(name string, value []byte) error {
	if a.path == "" {
		return unix.Fsetxattr(a.fd, name, value, 0)
	}
	return unix.Lsetxattr(a.path, name, value, 0)
}

func (a attrs) remove(name string) error {
	if a.path == "" {
		return unix.Fremovexattr(a.fd, name)
	}
	return unix.Lremovexattr(a.path, name)
}

// grow calls fill with a buffer that is large enough, though what it is for
// may grow between two calls.
func grow(fill func([]byte) (int, error)) ([]byte, error) {
	n, err := fill(nil)
	for err == nil && n > 0 {
		buf := make([]byte, n)
		n, err = fill(buf)
		if err == nil {
			return buf[:n], nil
		}
		if err == unix.ERANGE {
			n, err = fill(nil)
		}
	}
	return nil, err
}

// list names the attributes; none where the file system has no such thing.
func (a attrs) list() ([]string, error) {
	buf, err := grow(a.rawList)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	var names []string
	for _, n := range bytes.Split(buf, []byte{0}) {
		if len(n) > 0 {
			names = append(names, string(n))
		}
	}
	return names, err
}

func (a attrs) get(name string) ([]byte, error) {
	return grow(func(buf []byte) (int, error) { return a.rawGet(name, buf) })
}

// kept tells whether an attribute goes into the copy.
func kept(name string) bool {
	switch name {
	case "system.posix_acl_access", "system.posix_acl_default":
		return true
	case capability:
		return false
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security.")
}

// read returns the attributes that go into the copy. One that is gone by the
// time it is read was never there.
func (a attrs) read() (map[string][]byte, error) {
	names, err := a.list()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	values := make(map[string][]byte)
	for _, name := range names {
		if !kept(name) {
			continue
		}
		value, err := a.get(name)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		values[name] = value
	}
	return values, nil
}

// dropStale removes what the copy inherited from its directory or kept from an
// earlier pass and the source does not have.
func (a attrs) dropStale(want map[string][]byte) error {
	names, err := a.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := want[name]; ok || !kept(name) && name != capability {
			continue
		}
		err := a.remove(name)
		// A security module's label cannot be removed, only changed.
		if err != nil && err != unix.ENODATA && !strings.HasPrefix(name, "security.") {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

// dress gives an open file of the copy the metadata in st and the attributes
// of its source. The order matters: a change of owner clears mode bits, the
// mode may keep an ordinary user from setting attributes, and an access ACL is
// part of the mode.
func (p *pass) dress(from, to attrs, fd int, st *unix.Stat_t) error {
	want, err := from.read()
	if err != nil {
		return err
	}
	if err := to.dropStale(want); err != nil {
		return err
	}
	// A look is cheaper than a change that changes nothing.
	var have unix.Stat_t
	if err := unix.Fstat(fd, &have); err != nil {
		return err
	}
	chown := have.Uid != st.Uid || have.Gid != st.Gid
	if chown {
		if err := p.own(func(uid, gid int) error { return unix.Fchown(fd, uid, gid) }, st); err != nil {
			return err
		}
	}
	if err := p.setAttrs(to, want, false); err != nil {
		return err
	}
	if chown || have.Mode&0o7777 != permissions(st) {
		if err := unix.Fchmod(fd, permissions(st)); err != nil {
			return err
		}
	}
	if err := p.setAttrs(to, want, true); err != nil {
		return err
	}
	return setTimes(fd, st)
}

// own gives a file of the copy the owner and group of its source. Who may not
// give files away keeps them.
func (p *pass) own(chown func(uid, gid int) error, st *unix.Stat_t) error {
	err := chown(int(st.Uid), int(st.Gid))
	if err != unix.EPERM || !p.c.humble {
		return err
	}
	if len(p.c.notes) < maxNotes {
		p.c.notes[Note{".", "only root can keep the owner of all files"}] = true
	}
	if err := chown(-1, int(st.Gid)); err != unix.EPERM {
		return err
	}
	return nil
}

// dressAt is dress for what cannot be opened.
func (p *pass) dressAt(from, to int, name string, st *unix.Stat_t) error {
	want, err := nameAttrs(from, name).read()
	if err != nil {
		return raced(err)
	}
	a := nameAttrs(to, name)
	if err := a.dropStale(want); err != nil {
		return err
	}
	chown := func(uid, gid int) error { return unix.Fchownat(to, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW) }
	if err := p.own(chown, st); err != nil {
		return err
	}
	if err := p.setAttrs(a, want, false); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		// Nobody else can put a link in its place.
		if err := unix.Fchmodat(to, name, permissions(st), 0); err != nil {
			return err
		}
	}
	if err := p.setAttrs(a, want, true); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return heldTime(unix.UtimesNanoAt(to, name, times, unix.AT_SYMLINK_NOFOLLOW))
}

// setAttrs sets what it can, either the ACLs or all else; what the file system
// or the kernel's policy refuses is noted for the whole copy, not an error.
func (p *pass) setAttrs(to attrs, want map[string][]byte, acls bool) error {
	for name, value := range want {
		if strings.HasPrefix(name, "system.") != acls {
			continue
		}
		err := to.set(name, value)
		refused := err == unix.EOPNOTSUPP || err == unix.EPERM && (p.c.humble || strings.HasPrefix(name, "security."))
		switch {
		case err == nil:
		case refused && len(p.c.notes) < maxNotes:
			p.c.notes[Note{".", "attribute " + name + " is refused by the system"}] = true
		case refused:
		default:
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

// permissions are those that the copy gets: no set-user-ID, and set-group-ID
// only where it means inheritance, on a directory.
func permissions(st *unix.Stat_t) uint32 {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return st.Mode & (unix.S_ISGID | unix.S_ISVTX | 0o777)
	}
	return st.Mode & (unix.S_ISVTX | 0o777)
}

// noteRights reports what permissions and kept drop from a regular file.
func (p *pass) noteRights(name string, fd int, st *unix.Stat_t) {
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		p.note(name, "set-user-ID and set-group-ID are dropped")
	}
	if names, err := fdAttrs(fd).list(); err == nil && slices.Contains(names, capability) {
		p.note(name, "file capabilities are dropped")
	}
}

// setTimes sets the access and modification time of an open file (futimens,
// which x/sys does not have).
func setTimes(fd int, st *unix.Stat_t) error {
	times := [2]unix.Timespec{st.Atim, st.Mtim}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return heldTime(errno)
	}
	return nil
}

// heldTime forgives a time that this file system cannot hold.
func heldTime(err error) error {
	if err == unix.EINVAL {
		return nil
	}
	return err
}
