// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Part is a place that a process sees otherwise than the host.
type Part struct {
	// Source and Target are clean absolute paths without links in them. Without
	// a source an empty directory is seen.
	Source, Target string
	ReadOnly       bool
	Optional       bool // left out if the source is not there
}

// Private gives the calling thread a mount namespace of its own with these
// parts, in which what the host mounts and unmounts elsewhere goes on to be
// seen. The goroutine stays on the thread, which must execute the program that
// this is for; another thread is of no use. Sources are the host's, whatever is
// put in front of them.
//
// The thread stands where it stood, by path: moved tells that this is not to be
// seen any more, and that it stands in "/". On an error it must not be used.
func Private(parts []Part) (moved bool, err error) {
	runtime.LockOSThread()
	cwd, cwdErr := unix.Getwd()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return false, fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return false, fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	parts = slices.Clone(parts)
	slices.SortStableFunc(parts, func(a, b Part) int { return strings.Compare(a.Target, b.Target) })
	trees := make([]*tree, 0, len(parts))
	defer func() {
		for _, t := range trees {
			unix.Close(t.fd)
		}
	}()
	for _, p := range parts {
		t, err := pick(p)
		if errors.Is(err, unix.ENOENT) && p.Optional {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("cannot show %s at %s: %w", p.Source, p.Target, err)
		}
		trees = append(trees, t)
	}
	for _, t := range trees {
		if err := t.attach(); err != nil {
			return false, fmt.Errorf("cannot show something else at %s: %w", t.target, err)
		}
	}
	if cwdErr == nil && unix.Chdir(cwd) == nil {
		return false, nil
	}
	return true, unix.Chdir("/")
}

// tree is a mount that is nowhere to be seen yet.
type tree struct {
	fd     int
	dir    bool
	target string
}

func pick(p Part) (*tree, error) {
	if p.Source == "" {
		fd, err := emptyTree()
		return &tree{fd, true, p.Target}, err
	}
	at, err := openNoLinks(p.Source)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, err
	}
	fd, err := unix.OpenTree(at, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return nil, err
	}
	if p.ReadOnly {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return &tree{fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, p.Target}, nil
}

// emptyTree is a directory in memory, of 16 MiB at most.
func emptyTree() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	err = errors.Join(unix.FsconfigSetString(fs, "mode", "0755"), unix.FsconfigSetString(fs, "size", "16m"), unix.FsconfigCreate(fs))
	if err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// openNoLinks opens a place. A link on the way may be a snap's, and lead anywhere.
func openNoLinks(path string) (int, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ELOOP {
		return -1, fmt.Errorf("a symbolic link is on the way: %w", err)
	}
	return fd, err
}

// attach puts the tree to its place, which is made if it is not there.
func (t *tree) attach() error {
	at, err := openNoLinks(t.target)
	if err == unix.ENOENT {
		at, err = makePlace(t.target, t.dir)
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.MoveMount(t.fd, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// MakeTarget makes the place at which a part is to be seen, as root, if it is not
// there, for a thread that must not.
func MakeTarget(p Part) error {
	src, err := openNoLinks(p.Source)
	if err == unix.ENOENT && p.Optional {
		return nil
	}
	var st unix.Stat_t
	if err == nil {
		defer unix.Close(src)
		err = unix.Fstat(src, &st)
	}
	var at int
	if err == nil {
		if at, err = openNoLinks(p.Target); err == unix.ENOENT {
			at, err = makePlace(p.Target, st.Mode&unix.S_IFMT == unix.S_IFDIR)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot show %s at %s: %w", p.Source, p.Target, err)
	}
	return unix.Close(at)
}

// makePlace makes a directory, or a file, and the directories above it.
func makePlace(path string, dir bool) (int, error) {
	parent, err := openNoLinks(filepath.Dir(path))
	if err == unix.ENOENT {
		parent, err = makePlace(filepath.Dir(path), true)
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	name := filepath.Base(path)
	if dir {
		err = unix.Mkdirat(parent, name, 0o755)
	} else {
		err = unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0)
	}
	if err != nil && err != unix.EEXIST {
		return -1, err
	}
	return unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
