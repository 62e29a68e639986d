// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CgroupRoot is where the unified cgroup hierarchy, the one that systemd
// tracks processes in, is mounted: /sys/fs/cgroup, or its subdirectory
// "unified" on a hybrid host.
func CgroupRoot() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("cannot find the unified cgroup hierarchy: none is mounted under /sys/fs/cgroup")
}

// CgroupOf is the process's path in the unified hierarchy, from its root:
// "/system.slice/snap.foo.bar.service".
func CgroupOf(pid int) (string, error) {
	data, err := os.ReadFile(procPath(pid, "cgroup"))
	if err != nil {
		return "", fmt.Errorf("cannot tell the cgroup of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(strings.TrimSuffix(path, "\n"), " (deleted)"), nil
		}
	}
	return "", fmt.Errorf("cannot tell the cgroup of process %d: it is in no unified hierarchy", pid)
}

// PIDsInCgroup lists, ascending, the processes in the cgroup at dir and in all
// below it. A cgroup that does not exist has none.
func PIDsInCgroup(dir string) ([]int, error) {
	var pids []int
	todo := []string{dir}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		// A threaded cgroup cannot be asked; its domain lists the processes.
		if err != nil && !gone(err) && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("cannot list the processes of cgroup %s: %w", dir, err)
		}
		for _, f := range strings.Fields(string(data)) {
			// 0 is a process of another pid namespace.
			if pid, err := strconv.Atoi(f); err == nil && pid != 0 {
				pids = append(pids, pid)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil && !gone(err) {
			return nil, fmt.Errorf("cannot list the processes of cgroup %s: %w", dir, err)
		}
		for _, e := range entries {
			if e.Type() == fs.ModeDir {
				todo = append(todo, filepath.Join(dir, e.Name()))
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}
