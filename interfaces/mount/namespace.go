// SPDX-License-Identifier: Apache-2.0

// Package mount changes what running processes see mounted: it enters their
// mount namespaces and makes directories read-only or writable there. In the
// daemon's own namespace only what stands ready for others is ever touched.
package mount

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"endured/osutil"
)

// Namespace is a mount namespace of running processes, never the daemon's own.
type Namespace struct {
	// ID identifies it while it lives.
	ID uint64
	// PIDs are the processes with a thread in it, ascending.
	PIDs []int
	fd   int
}

// Namespaces opens the distinct mount namespaces that the processes have:
// threads of one may have several. The daemon's own and that of PID 1 are left
// out. What has vanished is left out, too. Close each.
func Namespaces(pids []int) ([]*Namespace, error) {
	own, err := ownNamespaces()
	if err != nil {
		return nil, err
	}
	var found []*Namespace
	for _, pid := range pids {
		if pid == os.Getpid() {
			continue // threads of its own may be on a visit
		}
		// as long as this process lives, its number means no other
		p, err := osutil.OpenProcess(pid)
		if err != nil {
			continue
		}
		for _, task := range tasks(pid) {
			found = add(found, p, task, own)
		}
		p.Close()
	}
	return found, nil
}

func add(found []*Namespace, p *osutil.Process, task string, own []uint64) []*Namespace {
	fd, id, err := openNamespace(task)
	if err != nil {
		return found
	}
	known := slices.IndexFunc(found, func(n *Namespace) bool { return n.ID == id })
	if known >= 0 {
		unix.Close(fd)
		if n := found[known]; !slices.Contains(n.PIDs, p.PID()) {
			n.PIDs = append(n.PIDs, p.PID())
		}
		return found
	}
	if slices.Contains(own, id) || p.Signal(0) != nil {
		unix.Close(fd)
		return found
	}
	return append(found, &Namespace{ID: id, PIDs: []int{p.PID()}, fd: fd})
}

// tasks lists the threads of a process as directories of /proc.
func tasks(pid int) []string {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for i := range names {
		names[i] = dir + "/" + names[i]
	}
	return names
}

func openNamespace(task string) (fd int, id uint64, err error) {
	fd, err = unix.Open(task+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, st.Ino, nil
}

func ownNamespaces() ([]uint64, error) {
	fd, id, err := openNamespace(fmt.Sprintf("/proc/%d", os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("cannot look at the mount namespace of the daemon: %w", err)
	}
	unix.Close(fd)
	own := []uint64{id}
	if fd, id, err := openNamespace("/proc/1"); err == nil { // else no other can be entered either
		unix.Close(fd)
		own = append(own, id)
	}
	return own, nil
}

// Close lets go of it.
func (n *Namespace) Close() { unix.Close(n.fd) }

// inside is a thread that is in another mount namespace.
type inside struct {
	proc int // the daemon's own /proc: the namespace may have none
}

// enter runs do in the namespace, on a thread of its own that ends with it: a
// thread can enter a mount namespace only after its file system attributes are
// no longer shared with others, and is of no use to anybody else afterwards.
func (n *Namespace) enter(do func(in *inside) error) error {
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open /proc: %w", err)
	}
	defer unix.Close(proc)
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("cannot prepare to enter a mount namespace: %w", err)
		}
		if err := unix.Setns(n.fd, unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("cannot enter the mount namespace of pid %d: %w", n.PIDs[0], err)
		}
		return do(&inside{proc})
	})
}

// onThread runs do on a thread that is thrown away. It must not be the main
// one: that cannot end, and /proc/self would show its namespace from then on.
func onThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(do) // while this goroutine keeps the main thread
			runtime.UnlockOSThread()
			return
		}
		done <- do() // never unlocked: the thread ends with the goroutine
	}()
	return <-done
}

// mounts is what the thread sees mounted.
func (in *inside) mounts() ([]osutil.Mount, error) {
	fd, err := unix.Openat(in.proc, "thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot list mounts: %w", err)
	}
	f := os.NewFile(uintptr(fd), "mountinfo")
	defer f.Close()
	return osutil.ParseMounts(f)
}

// errCovered says that another mount lies over the one that is meant.
var errCovered = errors.New("something is mounted over it")

// open returns a descriptor of the root of exactly that mount.
func (in *inside) open(m osutil.Mount) (int, error) {
	fd, err := unix.Open(m.Point, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if id, err := mountID(fd); err != nil || id != m.ID {
		unix.Close(fd)
		return -1, errors.Join(errCovered, err)
	}
	return fd, nil
}

func mountID(fd int) (int, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, errors.New("the kernel does not tell mounts apart: it is older than 5.8")
	}
	return int(st.Mnt_id), nil
}

// setReadOnly changes one mount, and none below it.
func setReadOnly(fd int, on bool) error {
	a := &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if on {
		a = &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, a)
}

// GiveWritable makes a directory writable in the namespace, which was made when
// another directory was its own. It does nothing where it is writable.
func (n *Namespace) GiveWritable(dir string) error {
	err := n.enter(func(*inside) error {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return err
		}
		if st.Flags&unix.ST_RDONLY == 0 {
			return nil // an earlier run did it
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := setReadOnly(fd, false); err != nil {
			return err
		}
		return unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
	if err != nil {
		return fmt.Errorf("cannot give pid %d access to %s: %w", n.PIDs[0], dir, err)
	}
	return nil
}

func procName(pid int, name string) string { return strconv.Itoa(pid) + "/" + name }
