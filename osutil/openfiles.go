// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenFile is a descriptor of a process, open for writing to a regular file.
type OpenFile struct {
	PID int
	// FD is -1 for a mapping.
	FD   int
	Stat unix.Statx_t
	// Mount is the one that it was opened through, Path what the kernel calls it
	// below that one's point.
	Mount Mount
	Path  string
}

// OpenForWriting lists, by ascending process, the descriptors of any process
// that are open for writing to a regular file on a mount of the device (as in
// mountinfo). Those that were opened through a mount that no process sees, and
// those of threads that unshared theirs from their process, are not found.
func OpenForWriting(dev uint64) ([]OpenFile, error) {
	pids, err := PIDs()
	if err != nil {
		return nil, fmt.Errorf("cannot find who writes to device %d:%d: %w", unix.Major(dev), unix.Minor(dev), err)
	}
	s := openScan{dev: dev, mounts: map[int]*Mount{}}
	for _, pid := range pids {
		s.process(pid)
	}
	return s.found, nil
}

type openScan struct {
	dev    uint64
	mounts map[int]*Mount // by number; nil for one that nobody sees
	found  []OpenFile
}

func (s *openScan) process(pid int) {
	d, err := os.Open(procPath(pid, "fd"))
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	dir := int(d.Fd())
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil {
			s.add(pid, fd, dir, name)
		}
	}
}

// add looks at one link of /proc to an open file. The link's own permissions
// are those that the file was opened with.
func (s *openScan) add(pid, fd, dir int, name string) {
	var link unix.Stat_t
	if unix.Fstatat(dir, name, &link, unix.AT_SYMLINK_NOFOLLOW) != nil || link.Mode&unix.S_IWUSR == 0 {
		return
	}
	f := OpenFile{PID: pid, FD: fd}
	const flags = unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	if unix.Statx(dir, name, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &f.Stat) != nil || f.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	m := s.mount(pid, int(f.Stat.Mnt_id))
	if m == nil || m.Dev() != s.dev {
		return
	}
	f.Mount = *m
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return
	}
	f.Path = string(buf[:n])
	s.found = append(s.found, f)
}

func (s *openScan) mount(pid, id int) *Mount {
	if m, known := s.mounts[id]; known {
		return m
	}
	s.mounts[id] = nil
	mounts, err := Mounts(pid)
	if err != nil {
		return nil
	}
	for i := range mounts {
		s.mounts[mounts[i].ID] = &mounts[i]
	}
	return s.mounts[id]
}

// MappedForWriting lists, by process, the regular files on a mount of the device
// (as in mountinfo) that the processes have mapped so that their stores reach
// the file, now or once they ask for it: shared, from a descriptor that was open
// for writing. It needs to be root's.
func MappedForWriting(pids []int, dev uint64) []OpenFile {
	s := openScan{dev: dev, mounts: map[int]*Mount{}}
	for _, pid := range pids {
		s.mappings(pid)
	}
	return s.found
}

func (s *openScan) mappings(pid int) {
	f, err := os.Open(procPath(pid, "maps"))
	if err != nil {
		return
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<16)
	for sc.Scan() {
		// address perms offset dev inode path
		f := bytes.SplitN(sc.Bytes(), []byte(" "), 6)
		if len(f) < 6 || len(f[1]) != 4 || f[1][3] != 's' || len(f[4]) == 1 {
			continue
		}
		s.add(pid, -1, unix.AT_FDCWD, procPath(pid, "map_files/"+string(f[0])))
	}
}

// Powers are the capabilities that a process has over the system, as a bit mask,
// bits as in capability.h: those that it may use, or, if it is root's, those
// that it gets by executing a program. One in a user namespace of its own has
// none over what lies outside. The error wraps fs.ErrNotExist or unix.ESRCH
// when the process is gone.
func Powers(pid int) (uint64, error) {
	fail := func(err error) (uint64, error) {
		return 0, fmt.Errorf("cannot read the capabilities of process %d: %w", pid, err)
	}
	var own, theirs unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &own); err != nil {
		return fail(err)
	}
	if err := unix.Stat(procPath(pid, "ns/user"), &theirs); err != nil {
		return fail(err)
	}
	if own.Ino != theirs.Ino {
		return 0, nil
	}
	data, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return fail(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	key := "CapPrm"
	if uid, _, _ := strings.Cut(fields["Uid"], "\t"); uid == "0" {
		key = "CapBnd"
	}
	if fields[key] == "" {
		return fail(errors.New("status has no " + key))
	}
	mask, err := strconv.ParseUint(fields[key], 16, 64)
	if err != nil {
		return fail(err)
	}
	return mask, nil
}
