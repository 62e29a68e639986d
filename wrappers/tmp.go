// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"endured/dirs"
	"endured/snap"
)

// TmpfilesPath is where a snap's tmpfiles.d entry is written, below the root.
func TmpfilesPath(d dirs.Dirs, name string) string {
	return d.Under("/etc/tmpfiles.d/snap." + name + ".conf")
}

// tmpfiles returns the entry that makes a snap's /tmp again at boot, before
// any service starts, and keeps cleaners away from it.
func tmpfiles(name string) File {
	tmp := system().PrivateTmp(name)
	own := filepath.Dir(tmp)
	text := fmt.Sprintf("d %s 0700 root root -\nd %s 0700 root root -\nd %s 1777 root root -\n", filepath.Dir(own), own, tmp)
	return File{Path: TmpfilesPath(system(), name), Data: []byte(text), Mode: 0o644}
}

// needsTmp tells whether programs of the snap have a /tmp of their own.
func needsTmp(info *snap.Info) bool {
	return (len(info.Apps) > 0 || len(info.Hooks) > 0) && ownMounts(info)
}

// EnsurePrivateTmp makes the directory that a snap's programs see as /tmp. Its
// parent is root's alone; anything else that a user of the host put there
// first is moved out of the way. It does nothing for a snap without programs
// or without mounts of its own.
func EnsurePrivateTmp(info *snap.Info, o Options) error {
	if !needsTmp(info) {
		return nil
	}
	tmp := o.Dirs.PrivateTmp(info.Name)
	own := filepath.Dir(tmp)
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(own)), 0o1777); err != nil {
		return fmt.Errorf("cannot make the private /tmp of %q: %w", info.Name, err)
	}
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{filepath.Dir(own), 0o700}, {own, 0o700}, {tmp, 0o777 | fs.ModeSticky}} {
		if err := ensureOwnDir(d.path, d.mode); err != nil {
			return fmt.Errorf("cannot make the private /tmp of %q: %w", info.Name, err)
		}
	}
	return nil
}

// ensureOwnDir makes path a directory of this process's user with that mode.
// It moves away whatever else is there: in the sticky /tmp nobody but root can
// put it back.
func ensureOwnDir(path string, mode fs.FileMode) error {
	const bits = fs.ModePerm | fs.ModeSticky | fs.ModeSetuid | fs.ModeSetgid
	fi, err := os.Lstat(path)
	if err == nil {
		st, ok := fi.Sys().(*syscall.Stat_t)
		if fi.IsDir() && ok && int(st.Uid) == os.Geteuid() {
			if fi.Mode()&bits == mode {
				return nil
			}
			return os.Chmod(path, mode)
		}
		aside, err := os.MkdirTemp(filepath.Dir(path), "snap-moved-")
		if err != nil {
			return err
		}
		if err := os.Rename(path, filepath.Join(aside, filepath.Base(path))); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
