// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Link is a symbolic link in a directory that the snap can write: Path is
// where the author asked for a socket, Target where PID 1 listens.
type Link struct {
	Unit   string // the socket's unit
	Base   string // the directory that belongs to the snap; what holds it is root's
	Path   string // below Base
	Target string
}

// MakeLinks makes the links of a set's sockets. It never follows a link that
// the snap has put in the way, nor leaves the link's Base. Missing directories
// below Base are made, 0755; whatever but a directory has the link's name is
// replaced. A link that is there already costs no write.
func MakeLinks(links []Link, o Options) error {
	for _, l := range links {
		if err := makeLink(l, o); err != nil {
			return fmt.Errorf("cannot link %s to its socket: %w", l.Path, err)
		}
	}
	return nil
}

func makeLink(l Link, o Options) error {
	rel, err := filepath.Rel(l.Base, l.Path)
	if err != nil {
		return err
	}
	if strings.HasPrefix(l.Base, "/run/") { // nothing else makes it on a host where root never logs in
		if err := os.MkdirAll(o.Dirs.Under(l.Base), 0o700); err != nil {
			return err
		}
	}
	dir, err := unix.Open(o.Dirs.Under(l.Base), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: l.Base, Err: err}
	}
	defer func() { unix.Close(dir) }()
	names := strings.Split(rel, "/")
	name := names[len(names)-1]
	for _, n := range names[:len(names)-1] {
		next, err := openMade(dir, n)
		if err != nil {
			return &os.PathError{Op: "open", Path: n, Err: err}
		}
		unix.Close(dir)
		dir = next
	}
	buf := make([]byte, unix.PathMax)
	if n, err := unix.Readlinkat(dir, name, buf); err == nil && string(buf[:n]) == l.Target {
		return nil
	}
	tmp := "." + name + ".snapd~"
	if err := unix.Unlinkat(dir, tmp, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := unix.Symlinkat(l.Target, dir, tmp); err != nil {
		return err
	}
	if err := unix.Renameat(dir, tmp, dir, name); err != nil {
		unix.Unlinkat(dir, tmp, 0)
		return err
	}
	return nil
}

// openMade opens one directory below dir, made if it is missing.
func openMade(dir int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(dir, name, &how)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := unix.Mkdirat(dir, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return unix.Openat2(dir, name, &how)
}
