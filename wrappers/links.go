// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// RemoveLinks removes links that MakeLinks made and that are not wanted any
// more. Whatever else has such a name belongs to the snap, and stays.
func RemoveLinks(links []Link, o Options) error {
	for _, l := range links {
		err := removeLink(l, o)
		if slices.ContainsFunc([]error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV}, func(e error) bool { return errors.Is(err, e) }) {
			continue // the snap has put something else in its place
		}
		if err != nil {
			return fmt.Errorf("cannot remove link %s to a socket: %w", l.Path, err)
		}
	}
	return nil
}

func removeLink(l Link, o Options) error {
	dir, name, err := openParent(l, o, openBeneath)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if !leads(dir, name, l.Target) {
		return nil
	}
	return unix.Unlinkat(dir, name, 0)
}

// leads tells whether name is a link to the target.
func leads(dir int, name, target string) bool {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	return err == nil && string(buf[:n]) == target
}

// openParent opens the directory that a link lies in, each one below Base by
// open, and returns the link's own name.
func openParent(l Link, o Options, open func(dir int, name string) (int, error)) (dir int, name string, err error) {
	rel, err := filepath.Rel(l.Base, l.Path)
	if err != nil {
		return -1, "", err
	}
	dir, err = unix.Open(o.Dirs.Under(l.Base), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", &os.PathError{Op: "open", Path: l.Base, Err: err}
	}
	names := strings.Split(rel, "/")
	for _, n := range names[:len(names)-1] {
		next, err := open(dir, n)
		unix.Close(dir)
		if err != nil {
			return -1, "", &os.PathError{Op: "open", Path: n, Err: err}
		}
		dir = next
	}
	return dir, names[len(names)-1], nil
}

func makeLink(l Link, o Options) error {
	if strings.HasPrefix(l.Base, "/run/") { // nothing else makes it on a host where root never logs in
		if err := os.MkdirAll(o.Dirs.Under(l.Base), 0o700); err != nil {
			return err
		}
	}
	dir, name, err := openParent(l, o, openMade)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if leads(dir, name, l.Target) {
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

func openBeneath(dir int, name string) (int, error) {
	return unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// openMade opens one directory below dir, made if it is missing.
func openMade(dir int, name string) (int, error) {
	fd, err := openBeneath(dir, name)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := unix.Mkdirat(dir, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return openBeneath(dir, name)
}
