// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"endured/osutil"
)

// State is what became of one mount.
type State string

// The states.
const (
	ReadOnly State = "read-only" // of the mount itself
	// Covered is a mount that could not be made read-only, because a file is open
	// for writing through it, with a read-only one over it: it is out of reach
	// but for who stands in it already.
	Covered State = "covered"
	Open    State = "open" // see Err
)

// Change is what was done to one mount of a namespace.
type Change struct {
	Point string
	State State
	Err   error
}

// Mark names a mount that was read-only before anybody sealed anything. It is
// the same in copies of the namespace. Without a point it is every mount of the root.
type Mark struct {
	Point string `json:"point"`
	Root  string `json:"root"`
}

func marked(m osutil.Mount, marks []Mark) bool {
	return slices.ContainsFunc(marks, func(k Mark) bool { return k.Root == m.Root && (k.Point == "" || k.Point == m.Point) })
}

func markOf(m osutil.Mount) Mark { return Mark{m.Point, m.Root} }

func isReadOnly(m osutil.Mount) bool { return slices.Contains(strings.Split(m.Options, ","), "ro") }

// ReadOnlyNow lists what of the place is read-only in the namespace, for
// MakeWritable to leave it so. It is to be asked, and its answer kept, before
// MakeReadOnly.
func (n *Namespace) ReadOnlyNow(place Place) ([]Mark, error) {
	var marks []Mark
	err := n.enter(func(in *inside) error {
		mounts, err := in.mounts()
		for _, m := range mounts {
			if place.Holds(m) && isReadOnly(m) {
				marks = append(marks, markOf(m))
			}
		}
		return err
	})
	return marks, err
}

// ReadOnlyAt tells whether a directory is read-only, or not there, as the
// namespace shows it at its path.
func (n *Namespace) ReadOnlyAt(dir string) bool {
	closed := false
	err := n.enter(func(*inside) error {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		closed = err == nil && st.Flags&unix.ST_RDONLY != 0 || err == unix.ENOENT
		return nil
	})
	return closed && err == nil
}

// MakeReadOnly makes every mount of the place read-only in the namespace. It may
// be called again, as when a file that was in the way may have been closed. A
// covered mount is then reached by the working and open directories of
// processes; if none leads to its root, lift allows the cover to be taken away
// for some microseconds.
//
// The error is about the namespace as a whole; a mount that stays open says so.
func (n *Namespace) MakeReadOnly(place Place, lift bool) ([]Change, error) {
	var changes []Change
	err := n.enter(func(in *inside) error {
		mounts, err := in.mounts()
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if place.Holds(m) {
				changes = append(changes, in.close(m, place, mounts, n.PIDs, lift))
			}
		}
		return nil
	})
	return changes, err
}

func (in *inside) close(m osutil.Mount, place Place, all []osutil.Mount, stand []int, lift bool) Change {
	c := Change{Point: m.Point, State: ReadOnly}
	if isReadOnly(m) {
		return c
	}
	fd, err := in.open(m)
	if errors.Is(err, errCovered) {
		return in.closeCovered(m, place, all, stand, lift)
	}
	if err == nil {
		defer unix.Close(fd)
		if err = setReadOnly(fd, true); err == unix.EBUSY {
			c.State = Covered
			err = cover(fd)
		}
	}
	if err != nil {
		c.State, c.Err = Open, fmt.Errorf("cannot make %s read-only: %w", m.Point, err)
	}
	return c
}

// cover lays a read-only bind of a mount over it, in one step.
func cover(fd int) error {
	lid, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(lid)
	if err := setReadOnly(lid, true); err != nil {
		return err
	}
	return unix.MoveMount(lid, "", fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// closeCovered makes a mount read-only that no path leads to. Who can still
// write through it stands in it: if that is at its root, so can we.
func (in *inside) closeCovered(m osutil.Mount, place Place, all []osutil.Mount, stand []int, lift bool) Change {
	c := Change{Point: m.Point, State: Covered}
	lid := slices.IndexFunc(all, func(o osutil.Mount) bool { return o.Parent == m.ID && o.Point == m.Point })
	if lid >= 0 && (!place.Holds(all[lid]) || !isReadOnly(all[lid])) {
		// something else lies over it, which somebody may take away
		c.State, c.Err = Open, fmt.Errorf("cannot make %s read-only: %w", m.Point, errCovered)
		lift = false
	}
	if fd := in.standpoint(m, stand); fd >= 0 {
		defer unix.Close(fd)
		if setReadOnly(fd, true) == nil {
			return Change{Point: m.Point, State: ReadOnly}
		}
		return c
	}
	if lid < 0 || !lift || unix.Unmount(m.Point, unix.UMOUNT_NOFOLLOW) != nil {
		return c
	}
	fd, err := in.open(m)
	if err == nil {
		defer unix.Close(fd)
		if setReadOnly(fd, true) == nil {
			return Change{Point: m.Point, State: ReadOnly}
		}
		err = cover(fd)
	}
	if err != nil {
		c.State, c.Err = Open, fmt.Errorf("cannot make %s read-only: %w", m.Point, err)
	}
	return c
}

// standpoint opens the root of a mount by way of a process that stands there;
// -1 if none does.
func (in *inside) standpoint(m osutil.Mount, stand []int) int {
	for _, pid := range stand {
		for _, name := range in.directories(pid) {
			fd, err := unix.Openat(in.proc, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			var st unix.Statx_t
			err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
			if err == nil && int(st.Mnt_id) == m.ID && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
				return fd
			}
			unix.Close(fd)
		}
	}
	return -1
}

// directories lists, relative to /proc, where a process stands or can go to.
func (in *inside) directories(pid int) []string {
	names := []string{procName(pid, "cwd"), procName(pid, "root")}
	fd, err := unix.Openat(in.proc, procName(pid, "fd"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return names
	}
	f := os.NewFile(uintptr(fd), "fd")
	defer f.Close()
	all, _ := f.Readdirnames(-1)
	for _, n := range all {
		names = append(names, procName(pid, "fd/"+n))
	}
	return names
}

// StandsIn tells by which directory a process of the namespace reaches a mount
// of the place that can still be written to, although it is covered: "cwd" or "fd/7".
func (n *Namespace) StandsIn(place Place, pid int) ([]string, error) {
	var found []string
	err := n.enter(func(in *inside) error {
		mounts, err := in.mounts()
		if err != nil {
			return err
		}
		open := map[int]bool{}
		for _, m := range mounts {
			if place.Holds(m) && !isReadOnly(m) {
				open[m.ID] = true
			}
		}
		if len(open) == 0 {
			return nil
		}
		for _, name := range in.directories(pid) {
			fd, err := unix.Openat(in.proc, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			if id, err := mountID(fd); err == nil && open[id] {
				_, what, _ := strings.Cut(name, "/")
				found = append(found, what)
			}
			unix.Close(fd)
		}
		return nil
	})
	return found, err
}

// MakeWritable takes MakeReadOnly back, but for what was read-only before.
func (n *Namespace) MakeWritable(place Place, before []Mark) error {
	return n.enter(func(in *inside) error {
		var errs []error
		done := map[int]bool{}
		// a cover that is gone shows what was below it
		for again := true; again; {
			again = false
			mounts, err := in.mounts()
			if err != nil {
				return err
			}
			for _, m := range slices.Backward(mounts) {
				if !place.Holds(m) || done[m.ID] || !isReadOnly(m) || marked(m, before) {
					continue
				}
				fd, err := in.open(m)
				if errors.Is(err, errCovered) {
					continue // in the next round
				}
				done[m.ID], again = true, true
				if err == nil {
					err = reopen(fd, m, mounts)
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("cannot make %s writable: %w", m.Point, err))
				}
			}
		}
		return errors.Join(errs...)
	})
}

// reopen makes a mount writable, and takes it away if it is only a cover.
func reopen(fd int, m osutil.Mount, all []osutil.Mount) error {
	defer unix.Close(fd)
	// who has gone into a cover goes on from there
	if err := setReadOnly(fd, false); err != nil {
		return err
	}
	under := slices.IndexFunc(all, func(o osutil.Mount) bool { return o.ID == m.Parent })
	if under < 0 || all[under].Point != m.Point || all[under].Root != m.Root || all[under].Dev() != m.Dev() {
		return nil
	}
	return unix.Unmount(m.Point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}
