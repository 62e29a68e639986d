// SPDX-License-Identifier: Apache-2.0

// Package osutil holds the file and process primitives that the daemon builds
// on: files that are replaced whole or not at all, locks that can be given up,
// exits that are awaited instead of polled, and what /proc knows about who
// uses a file system.
package osutil

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tempSuffix ends the name of every temporary made here, so that no program
// that reads the directory (systemd, dbus-daemon) takes it for its own.
const tempSuffix = ".tmp"

// tempName returns a fresh hidden sibling name for path: ".BASE.RANDOM.tmp".
func tempName(path string) string {
	dir, base := filepath.Split(path)
	return dir + "." + base + "." + strconv.FormatUint(rand.Uint64(), 36) + tempSuffix
}

// tempFor returns the name that tempName was given, if name is a temporary.
func tempFor(name string) (base string, ok bool) {
	rest, ok := strings.CutSuffix(name, tempSuffix)
	if !ok || !strings.HasPrefix(rest, ".") {
		return "", false
	}
	dot := strings.LastIndexByte(rest, '.')
	if dot <= 1 {
		return "", false
	}
	if _, err := strconv.ParseUint(rest[dot+1:], 36, 64); err != nil {
		return "", false
	}
	return rest[1:dot], true
}

// WriteFile makes path a regular file with the given content and permissions
// (exact: the umask is not applied). Readers see the old file or the new one,
// never a part; a symbolic link at path is replaced, not followed. After a
// power cut the file may be the old one; see WriteFileSync.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return writeFile(path, data, perm, false)
}

// WriteFileSync is WriteFile that returns only when the new content and its
// name are on stable storage.
func WriteFileSync(path string, data []byte, perm fs.FileMode) error {
	return writeFile(path, data, perm, true)
}

func writeFile(path string, data []byte, perm fs.FileMode, sync bool) error {
	tmp, err := writeTemp(path, data, perm, sync)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if !sync {
		return nil
	}
	return SyncDirEntry(path)
}

// writeTemp writes a temporary beside path and returns its name; on an error
// it leaves nothing behind.
func writeTemp(path string, data []byte, perm fs.FileMode, sync bool) (name string, err error) {
	name = tempName(path)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(name)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	if err := f.Chmod(perm); err != nil {
		return "", err
	}
	if sync {
		return name, f.Sync()
	}
	return name, nil
}

// SyncDirEntry puts the directory that holds path on stable storage, and with
// it the creation, renaming or removal of path.
func SyncDirEntry(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("cannot sync the directory of %s: %w", path, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot sync the directory of %s: %w", path, err)
	}
	return nil
}

// SyncFilesystem puts everything written to the file system that holds path on
// stable storage (syncfs). It can take seconds on a busy device.
func SyncFilesystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot sync the file system of %s: %w", path, err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("cannot sync the file system of %s: %w", path, err)
	}
	return nil
}

// EnsureDir makes path a directory with exactly the given permissions;
// missing parents are made 0755. It reports whether path was made or its
// permissions changed. A symbolic link at path is an error: its target is
// somebody else's choice.
func EnsureDir(path string, perm fs.FileMode) (changed bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("cannot make directory %s: %w", path, err)
	}
	err = os.Mkdir(path, perm)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("cannot make directory %s: %w", path, err)
	}
	changed = err == nil
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return changed, fmt.Errorf("cannot make directory %s: %w", path, err)
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return changed, fmt.Errorf("cannot make directory %s: %w", path, err)
	}
	const bits = fs.ModePerm | fs.ModeSticky | fs.ModeSetgid | fs.ModeSetuid
	if info.Mode()&bits == perm&bits {
		return changed, nil
	}
	if err := d.Chmod(perm); err != nil {
		return changed, fmt.Errorf("cannot make directory %s: %w", path, err)
	}
	return true, nil
}

// Space is what a file system has left for an ordinary user.
type Space struct {
	// Free is in bytes.
	Free int64
	// Inodes is the number of files that can still be made, -1 when the file
	// system has no such limit.
	Inodes int64
}

// FreeSpace tells what is left on the file system that holds path. Blocks
// reserved for root do not count.
func FreeSpace(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, fmt.Errorf("cannot tell the free space at %s: %w", path, err)
	}
	s := Space{Free: int64(st.Bavail) * st.Bsize, Inodes: int64(st.Ffree)}
	if st.Files == 0 {
		s.Inodes = -1
	}
	return s, nil
}
