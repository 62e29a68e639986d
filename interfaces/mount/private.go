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
	// Source and Target are clean absolute paths without links in them, but for
	// what Within allows. Without a source an empty directory is seen.
	Source string
	// Within is at or above the source: links below it are followed, but not out
	// of it. "" is for no links at all.
	Within   string
	Target   string
	ReadOnly bool
	Optional bool // left out if the source is not there
	// Closed is a file, or "": while it exists what is mounted is read-only.
	Closed string
}

// Private gives the calling thread a mount namespace of its own with these
// parts, in which what the host mounts and unmounts elsewhere goes on to be
// seen. The goroutine stays on the thread, which must execute the program that
// this is for; another thread is of no use. Sources are the host's, whatever is
// put in front of them.
//
// The thread stands where it stood, by path: moved tells that this is not to be
// seen any more, and that it stands in "/". A source with Within, which is another
// snap's to spoil, that cannot be shown is left out, and said in left. On an error
// the thread must not be used.
func Private(parts []Part) (moved bool, left []error, err error) {
	runtime.LockOSThread()
	cwd, cwdErr := unix.Getwd()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return false, nil, fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return false, nil, fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	parts = slices.Clone(parts)
	slices.SortStableFunc(parts, func(a, b Part) int { return strings.Compare(a.Target, b.Target) })
	trees := make([]*tree, 0, len(parts))
	defer func() {
		for _, t := range trees {
			t.close()
		}
	}()
	for _, p := range parts {
		t, err := pick(p)
		if errors.Is(err, unix.ENOENT) && p.Optional {
			continue
		}
		if err != nil {
			err = fmt.Errorf("cannot show %s at %s: %w", p.Source, p.Target, err)
		}
		if err != nil && p.Within == "" {
			return false, nil, err
		}
		if err != nil {
			left = append(left, err)
			continue
		}
		trees = append(trees, t)
	}
	for _, t := range trees {
		err := t.attach()
		if err == nil && t.closed() {
			err = setReadOnly(t.fd, true)
		}
		if err != nil {
			return false, nil, fmt.Errorf("cannot show something else at %s: %w", t.Target, err)
		}
	}
	if cwdErr == nil && unix.Chdir(cwd) == nil {
		return false, left, nil
	}
	return true, left, unix.Chdir("/")
}

// tree is a mount that is nowhere to be seen yet.
type tree struct {
	Part
	fd   int
	dir  bool
	host int // see closed; -1 for none
}

func pick(p Part) (*tree, error) {
	if p.Source == "" {
		fd, err := emptyTree()
		return &tree{p, fd, true, -1}, err
	}
	at, err := p.open()
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	return clone(at, p)
}

// clone makes a mount of what is open.
func clone(at int, p Part) (*tree, error) {
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
	t := &tree{p, fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, -1}
	if p.Closed != "" {
		t.host, err = unix.Open(filepath.Dir(filepath.Dir(p.Closed)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.close()
			return nil, fmt.Errorf("cannot tell whether it is sealed: %w", err)
		}
	}
	return t, nil
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

// open opens the source. What lies below Within is a snap's, which may put a
// link there at any moment.
func (p Part) open() (int, error) {
	if p.Within == "" {
		return openNoLinks(p.Source)
	}
	top, err := openNoLinks(p.Within)
	if err != nil {
		return -1, err
	}
	defer unix.Close(top)
	rest, err := filepath.Rel(p.Within, p.Source)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Openat2(top, rest, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	if err == unix.EXDEV {
		return -1, fmt.Errorf("a symbolic link leads out of %s: %w", p.Within, err)
	}
	return fd, err
}

// closed is asked once the part is mounted: who closes it makes the file first,
// and looks for mounts afterwards. The directory two above the file, as the host
// has it, was opened before, since something else may be mounted there by now.
func (t *tree) closed() bool {
	if t.host < 0 {
		return false
	}
	name := filepath.Join(filepath.Base(filepath.Dir(t.Closed)), filepath.Base(t.Closed))
	return unix.Faccessat(t.host, name, unix.F_OK, 0) != unix.ENOENT
}

func (t *tree) close() {
	unix.Close(t.fd)
	if t.host >= 0 {
		unix.Close(t.host)
	}
}

// attach puts the tree to its place, which is made if it is not there.
func (t *tree) attach() error {
	at, err := openNoLinks(t.Target)
	if err == unix.ENOENT {
		at, err = makePlace(t.Target, t.dir)
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
	src, err := p.open()
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
