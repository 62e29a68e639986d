// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	victim := filepath.Join(dir, "victim")
	must(t, os.WriteFile(victim, []byte("old"), 0o600))
	must(t, os.Symlink(victim, path))
	for _, write := range []func(string, []byte, fs.FileMode) error{WriteFile, WriteFileSync} {
		must(t, write(path, []byte("new"), 0o666))
		info, err := os.Lstat(path)
		must(t, err)
		if info.Mode() != 0o666 || content(t, path) != "new" || content(t, victim) != "old" {
			t.Errorf("mode %v, content %q, victim %q", info.Mode(), content(t, path), content(t, victim))
		}
	}
	if err := WriteFile(filepath.Join(dir, "none/a"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	if err := WriteFile(filepath.Join(dir, "d"), nil, 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if got := names(t, dir); !slices.Equal(got, []string{"a", "d", "victim"}) {
		t.Errorf("left behind: %q", got)
	}
}

func TestEnsureDir(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	path := filepath.Join(base, "a/b")
	for _, step := range []struct {
		perm    fs.FileMode
		changed bool
	}{{0o777 | fs.ModeSticky, true}, {0o777 | fs.ModeSticky, false}, {0o700, true}} {
		changed, err := EnsureDir(path, step.perm)
		must(t, err)
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != fs.ModeDir|step.perm || changed != step.changed {
			t.Errorf("%v: %v, %v", step.perm, info.Mode(), changed)
		}
	}
	must(t, os.Symlink(path, filepath.Join(base, "link")))
	if _, err := EnsureDir(filepath.Join(base, "link"), 0o755); err == nil {
		t.Error("a link was taken for a directory")
	}
}

func TestFreeSpace(t *testing.T) {
	t.Parallel()
	s, err := FreeSpace(t.TempDir())
	must(t, err)
	if s.Free <= 0 || s.Inodes == 0 {
		t.Errorf("got %+v", s)
	}
	if _, err := FreeSpace("/none"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}
