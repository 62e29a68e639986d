// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"endured/osutil"
)

// trust is what can be concluded from times on the source's file system.
//
// Differences takes a regular file for unchanged if it has the inode, size and
// change time that First recorded. That is right only if every write since
// would have moved the change time. For write(2) it does. For a store through
// a shared mapping the kernel updates the times only when the store makes a
// clean page dirty (page_mkwrite); later stores to a page that is already
// dirty go unseen until it is written back. So First first has the file's
// dirty pages written back, which write-protects them, and then reads it: any
// store after that faults and moves the change time. ext2/3/4, xfs, btrfs and
// f2fs work like that. tmpfs has no write-back, network file systems have
// other writers, and overlayfs may lie over any of these: there every regular
// file counts as changed.
//
// The recorded change time itself must be settled: the same before and after
// the write-back, else a store in between has dirtied a page already; and
// older than settleAge, see there. A buffered write that had been stamped but
// was still copying when First looked is waited for by the kernel: the search
// for holes (SEEK_DATA on ext4, btrfs, f2fs), or the read itself (xfs), takes
// the inode's lock, which the write holds.
type trust struct {
	// times move with every write that follows a write-back.
	times bool
	// datasync is set where only fdatasync is sure to write back and protect
	// everything. It also flushes the disk's cache, once for each file, which
	// sync_file_range does not: durability is not what it is for here.
	datasync bool
}

func trustIn(fd int) trust {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return trust{}
	}
	switch int64(fs.Type) {
	case unix.EXT4_SUPER_MAGIC:
		// With data=journal pages are dirtied again by the journal.
		return trust{times: !journalled(fd)}
	case unix.XFS_SUPER_MAGIC:
		return trust{times: true}
	case unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC:
		return trust{times: true, datasync: true}
	}
	return trust{}
}

// journalled tells whether the file system journals data, or cannot be asked.
func journalled(fd int) bool {
	var st unix.Stat_t
	mounts, err := osutil.Mounts(0)
	if unix.Fstat(fd, &st) != nil || err != nil {
		return true
	}
	for _, m := range mounts {
		if m.Dev() == uint64(st.Dev) && strings.Contains(m.SuperOptions, "data=journal") {
			return true
		}
	}
	return false
}

// writeBack has the file's dirty pages written and protected.
func (t trust) writeBack(fd int) error {
	if t.datasync {
		return unix.Fdatasync(fd)
	}
	const wait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	return unix.SyncFileRange(fd, 0, 0, wait)
}

// settled tells whether a change time that is seen now is safely in the past.
func (p *pass) settled(ctime int64) bool {
	return time.Now().UnixNano()-ctime > int64(p.c.settle)
}

// stamp records a regular file that is about to be read and, if it may be
// believed later, makes its times worth it.
func (p *pass) stamp(fd int, st *unix.Stat_t) *entry {
	e := newEntry(st, p.gen)
	if !p.first || !p.c.trust.times {
		return e
	}
	settled := p.settled(e.ctime)
	var after unix.Stat_t
	if p.c.trust.writeBack(fd) != nil || unix.Fstat(fd, &after) != nil {
		return e
	}
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil && flags&flagJournalData != 0 {
		return e
	}
	e.settled = settled && after.Ctim == st.Ctim
	if !e.settled {
		p.unsettled += e.size
		p.settlesAt = time.Unix(0, after.Ctim.Nano()).Add(p.c.settle)
	}
	return e
}

// clones tells whether the copy can share the source's blocks, by trying it in
// the temporary.
func (c *Copier) clones() bool {
	var a, b unix.Statfs_t
	tmp := c.Temporary()
	if unix.Statfs(c.src, &a) != nil || unix.Statfs(tmp, &b) != nil || a.Fsid != b.Fsid {
		return false
	}
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	var fds [2]int
	for i, name := range []string{"probe-from", "probe-to"} {
		path := filepath.Join(tmp, name)
		fd, err := unix.Open(path, flags, 0o600)
		if err != nil {
			return false
		}
		defer unix.Unlink(path)
		defer unix.Close(fd)
		fds[i] = fd
	}
	if _, err := unix.Write(fds[0], make([]byte, 4096)); err != nil {
		return false
	}
	return unix.IoctlFileClone(fds[1], fds[0]) == nil
}
