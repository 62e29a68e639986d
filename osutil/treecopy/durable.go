// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"sync"

	"golang.org/x/sys/unix"

	"endured/osutil"
)

const (
	// maxOwed is how many files a pass makes durable one by one. For more, the
	// whole file system is synced: that has its price, but one only.
	maxOwed = 512

	// flushers wait at the same time, so that a journal commits for many at once.
	flushers = 16
)

// debt is what a pass has written and must make durable before it ends.
type debt struct {
	fds  []int
	wide bool // too much to go file by file
}

// owe adds an open file or directory. The disk begins to write at once, so
// that there is little left to wait for.
func (d *debt) owe(fd int) error {
	if d.wide {
		return nil
	}
	if len(d.fds) == maxOwed {
		d.forgive()
		d.wide = true
		return nil
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d.fds = append(d.fds, own)
	// Best effort, and nothing for directories: pay waits for all of it.
	_ = unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	return nil
}

// pay returns when everything that is owed is on stable storage; dir is on the
// same file system.
func (d *debt) pay(dir string) error {
	defer d.forgive()
	if d.wide {
		return osutil.SyncFilesystem(dir)
	}
	var (
		wait  sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	for n := range min(flushers, len(d.fds)) {
		wait.Go(func() {
			for i := n; i < len(d.fds); i += flushers {
				if err := unix.Fsync(d.fds[i]); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	return first
}

func (d *debt) forgive() {
	for _, fd := range d.fds {
		unix.Close(fd)
	}
	d.fds, d.wide = nil, false
}

// ordered tells whether the file system that a file is on commits changes in
// the order in which they were made: then whatever later becomes durable below
// a renamed directory brings the renaming with it.
func ordered(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return false
	}
	return fs.Type == unix.EXT4_SUPER_MAGIC || fs.Type == unix.XFS_SUPER_MAGIC
}
