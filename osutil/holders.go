// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Use is one way in which a process holds a file system.
type Use struct {
	// What is "exe", "cwd", "root", "fd/N" or "map".
	What string
	// Path is what the kernel calls the file, seen from the process.
	Path string
}

// Holder is a process that holds a file system.
type Holder struct {
	PID  int
	Comm string
	Uses []Use
}

// HoldersOf lists, by ascending number, the processes that hold a file of the
// device (st_dev): as executable, working directory, root, open descriptor or
// mapping. Threads that unshared their descriptors from their process are not
// looked into, nor processes that the caller may not inspect.
func HoldersOf(dev uint64) ([]Holder, error) {
	pids, err := PIDs()
	if err != nil {
		return nil, fmt.Errorf("cannot find who uses device %d:%d: %w", unix.Major(dev), unix.Minor(dev), err)
	}
	var holders []Holder
	for _, pid := range pids {
		if uses := usesOf(pid, dev); len(uses) > 0 {
			comm, _ := os.ReadFile(procPath(pid, "comm"))
			holders = append(holders, Holder{pid, strings.TrimSuffix(string(comm), "\n"), uses})
		}
	}
	return holders, nil
}

func usesOf(pid int, dev uint64) []Use {
	links := []string{"exe", "cwd", "root"}
	if d, err := os.Open(procPath(pid, "fd")); err == nil {
		names, _ := d.Readdirnames(-1)
		d.Close()
		for _, n := range names {
			links = append(links, "fd/"+n)
		}
	}
	var uses []Use
	for _, l := range links {
		path := procPath(pid, l)
		if have, _, ok := devOf(path); ok && have == dev {
			target, _ := os.Readlink(path)
			uses = append(uses, Use{l, target})
		}
	}
	return append(uses, mapsOf(pid, dev)...)
}

// devOf follows path to st_dev and the inode number, without asking a remote
// server: one that does not answer must not hang us.
func devOf(path string) (dev, ino uint64, ok bool) {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_INO, &st) != nil {
		return 0, 0, false
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, true
}

func mapsOf(pid int, dev uint64) []Use {
	f, err := os.Open(procPath(pid, "maps"))
	if err != nil {
		return nil
	}
	defer f.Close()
	column := fmt.Sprintf("%02x:%02x", unix.Major(dev), unix.Minor(dev))
	var uses []Use
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<16)
	for sc.Scan() {
		// address perms offset dev inode path
		f := strings.SplitN(sc.Text(), " ", 6)
		if len(f) < 6 || f[3] != column {
			continue
		}
		u := Use{"map", strings.TrimLeft(f[5], " ")}
		if !slices.Contains(uses, u) {
			uses = append(uses, u)
		}
	}
	return uses
}

// MountNamespace is a mount namespace that has a device mounted.
type MountNamespace struct {
	// Inode identifies the namespace while it lives.
	Inode uint64
	// PIDs are the processes in it, ascending.
	PIDs []int
	// Mounts are those of the device.
	Mounts []Mount
}

// MountNamespacesWith lists, by their first process, the mount namespaces in
// which the device (st_dev) is mounted, the caller's own included. One that is
// kept only by a bind mount or descriptor, without a process, is not found.
func MountNamespacesWith(dev uint64) ([]MountNamespace, error) {
	pids, err := PIDs()
	if err != nil {
		return nil, fmt.Errorf("cannot find where device %d:%d is mounted: %w", unix.Major(dev), unix.Minor(dev), err)
	}
	// mountinfo shows what is below the process's root, so a namespace is
	// read once for each root.
	type view struct{ ns, rootDev, rootIno uint64 }
	seen := make(map[view]bool)
	byInode := make(map[uint64]*MountNamespace)
	var order []uint64
	for _, pid := range pids {
		_, ns, ok := devOf(procPath(pid, "ns/mnt"))
		if !ok {
			continue
		}
		n := byInode[ns]
		if n == nil {
			n = &MountNamespace{Inode: ns}
			byInode[ns] = n
			order = append(order, ns)
		}
		n.PIDs = append(n.PIDs, pid)
		rootDev, rootIno, ok := devOf(procPath(pid, "root"))
		v := view{ns, rootDev, rootIno}
		if !ok || seen[v] {
			continue
		}
		mounts, err := Mounts(pid)
		if err != nil {
			continue // it exited; the next one of the namespace is asked
		}
		seen[v] = true
		n.add(mounts, dev)
	}
	var found []MountNamespace
	for _, ns := range order {
		if n := byInode[ns]; len(n.Mounts) > 0 {
			found = append(found, *n)
		}
	}
	return found, nil
}

func (n *MountNamespace) add(mounts []Mount, dev uint64) {
	for _, m := range mounts {
		known := slices.ContainsFunc(n.Mounts, func(o Mount) bool { return o.ID == m.ID })
		if m.Dev() == dev && !known {
			n.Mounts = append(n.Mounts, m)
		}
	}
}

// ParseDev reads "MAJOR:MINOR" into an st_dev.
func ParseDev(s string) (uint64, error) {
	major, minor, ok := strings.Cut(s, ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("cannot use %q as a device: not MAJOR:MINOR", s)
	}
	return unix.Mkdev(uint32(ma), uint32(mi)), nil
}
