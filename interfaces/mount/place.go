// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"endured/osutil"
)

// Place is a directory as mount tables name it, whatever it is mounted as and
// wherever: which file system, and where in it.
type Place struct {
	Dev  uint64 // as in mountinfo, which need not be st_dev
	Root string
	// Apart is a directory of the host's where mounts do not count: only root gets
	// there, and copies of the namespace have them. "" is for none.
	Apart string
}

// PlaceOf finds the place of a directory as the daemon sees it. Its last
// element must not be a link; the error wraps fs.ErrNotExist if it is not there.
func PlaceOf(dir string) (Place, error) {
	fail := func(err error) (Place, error) { return Place{}, fmt.Errorf("cannot tell where %s lies: %w", dir, err) }
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	id, err := mountID(fd)
	if err != nil {
		return fail(err)
	}
	real, err := filepath.EvalSymlinks(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fail(err)
	}
	mounts, err := osutil.Mounts(0)
	if err != nil {
		return fail(err)
	}
	for _, m := range mounts {
		if m.ID == id {
			rest, err := filepath.Rel(m.Point, real)
			if err != nil {
				return fail(err)
			}
			return Place{Dev: m.Dev(), Root: filepath.Join(m.Root, rest)}, nil
		}
	}
	return fail(fmt.Errorf("no mount has the number %d", id))
}

// Holds tells whether what is mounted lies at or below the place.
func (p Place) Holds(m osutil.Mount) bool {
	return m.Dev() == p.Dev && below(m.Root, p.Root) && (p.Apart == "" || !below(m.Point, p.Apart))
}

// In tells whether any of what is mounted lies at or below the place, and whether
// any of that can be written to. Where it was sealed, what was not read-only
// before counts as such.
func (p Place) In(mounts []osutil.Mount, sealed bool, before []Mark) (has, writable bool) {
	for _, m := range mounts {
		if p.Holds(m) {
			has = true
			writable = writable || !isReadOnly(m) || sealed && !marked(m, before)
		}
	}
	return has, writable
}

// Name returns the path of a file relative to the place, given the mount that
// it was reached through and its path as the kernel shows it. in tells whether
// it lies there; known is false if that cannot be told, as when the mount was
// described by a process with another root. A name is a hint: names may hold
// anything, and change.
func (p Place) Name(m osutil.Mount, path string) (name string, in, known bool) {
	if m.Dev() != p.Dev {
		return "", false, true
	}
	if !below(path, m.Point) {
		return "", false, false
	}
	inFS := filepath.Join(m.Root, strings.TrimPrefix(path, m.Point))
	if !below(inFS, p.Root) {
		return "", false, true
	}
	return strings.TrimPrefix(strings.TrimPrefix(inFS, p.Root), "/"), true, true
}

func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}
