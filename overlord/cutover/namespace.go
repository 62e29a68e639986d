// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// giveData makes a directory writable in the mount namespace of a process that
// stays: its namespace was made when another directory was its own. It does
// nothing for a process in the daemon's own namespace.
func giveData(pid int, dir string) error {
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return fmt.Errorf("cannot look at the mount namespace of pid %d: %w", pid, err)
	}
	ours, err := os.Stat("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("cannot look at the mount namespace of the daemon: %w", err)
	}
	if os.SameFile(theirs, ours) {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		// entering a mount namespace needs a thread with file system attributes of
		// its own; it is never unlocked, so it ends with this function
		runtime.LockOSThread()
		done <- bindWritable(pid, dir)
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("cannot give pid %d access to %s: %w", pid, dir, err)
	}
	return nil
}

func bindWritable(pid int, dir string) error {
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return nil // an earlier run did it
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.MountSetattr(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
}
