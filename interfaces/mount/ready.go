// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"endured/osutil"
)

// Ready is a part that stands ready on the host, for PID 1 to mount from there.
type Ready struct {
	Part
	// Linked makes a symbolic link to where the source really is. It is for what
	// cannot change.
	Linked bool
}

// MakeReady makes exactly these parts stand at their targets, which are
// dir/name/NUMBER, in the caller's own mount namespace. What stands there
// already as it should is left alone: several units may be starting from it.
// The error names each part that is not ready; nothing stands in its place.
func MakeReady(dir, name string, parts []Ready) error {
	if len(parts) > 0 {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cannot make a place for what is shown: %w", err)
		}
	}
	lock, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", dir, err)
	}
	defer unix.Close(lock)
	if err := unix.Flock(lock, unix.LOCK_EX); err != nil {
		return fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	dir = filepath.Join(dir, name)
	var errs []error
	keep := map[string]bool{}
	for _, p := range parts {
		made, err := p.make()
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot show %s: %w", p.Source, err))
		}
		keep[p.Target] = made && err == nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); !keep[path] {
			errs = append(errs, takeAway(path))
		}
	}
	if len(parts) == 0 {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// make tells whether there is anything at the target now.
func (r Ready) make() (bool, error) {
	src, err := r.open()
	if err == unix.ENOENT && r.Optional {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(src)
	if r.Linked {
		return true, r.link(src)
	}
	tree, err := clone(src, r.Part)
	if err != nil {
		return false, err
	}
	defer tree.close()
	if !r.stands(src) {
		if err := takeAway(r.Target); err != nil {
			return false, err
		}
		if err := tree.attach(); err != nil {
			return false, err
		}
	}
	if !tree.closed() {
		return true, nil
	}
	fd, err := openNoLinks(r.Target)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return true, setReadOnly(fd, true)
}

// link makes the target a link to where the source is, whatever links lead there.
func (r Ready) link(src int) error {
	real, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(src))
	if err != nil {
		return err
	}
	if have, err := os.Readlink(r.Target); err == nil && have == real {
		return nil
	}
	if err := takeAway(r.Target); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.Target), 0o700); err != nil {
		return err
	}
	return os.Symlink(real, r.Target)
}

// stands tells whether the source is mounted at the target, and can be written
// to if it is to be.
func (r Ready) stands(src int) bool {
	at, err := openNoLinks(r.Target)
	if err != nil {
		return false
	}
	defer unix.Close(at)
	var is, want unix.Statx_t
	const mask = unix.STATX_INO | unix.STATX_TYPE
	err = errors.Join(unix.Statx(at, "", unix.AT_EMPTY_PATH, mask, &is), unix.Statx(src, "", unix.AT_EMPTY_PATH, mask, &want))
	if err != nil || is.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 || is.Ino != want.Ino || is.Dev_major != want.Dev_major || is.Dev_minor != want.Dev_minor {
		return false
	}
	var st unix.Statfs_t
	return unix.Fstatfs(at, &st) == nil && (st.Flags&unix.ST_RDONLY != 0) == r.ReadOnly
}

// takeAway removes a target and all that is mounted on it.
func takeAway(path string) error {
	for {
		switch err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
		case nil:
			continue
		case unix.EINVAL, unix.ENOENT: // nothing is mounted there
		default:
			return fmt.Errorf("cannot unmount %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
}

// ReadyReadOnly makes what stands ready below dir and lies in the place
// read-only, or writable again. It is the host's: what PID 1 has mounted from it
// is not changed.
func ReadyReadOnly(dir string, place Place, on bool) error {
	mounts, err := osutil.Mounts(0)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range mounts {
		if m.Dev() != place.Dev || !below(m.Root, place.Root) || !strings.HasPrefix(m.Point, dir+"/") || isReadOnly(m) == on {
			continue
		}
		fd, err := openNoLinks(m.Point)
		if err == nil {
			err = setReadOnly(fd, on)
			unix.Close(fd)
		}
		if err != nil && err != unix.ENOENT {
			errs = append(errs, fmt.Errorf("cannot change what is shown at %s: %w", m.Point, err))
		}
	}
	return errors.Join(errs...)
}
