// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"context"
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

func TestReplaceSymlink(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "current")
	for _, step := range []struct {
		target  string
		changed bool
	}{{"1", true}, {"1", false}, {"2", true}} {
		changed, err := ReplaceSymlink(step.target, link)
		must(t, err)
		if got, _ := os.Readlink(link); got != step.target || changed != step.changed {
			t.Errorf("to %s: %s, %v", step.target, got, changed)
		}
	}
	dir := t.TempDir()
	if _, err := ReplaceSymlink("1", dir); err == nil {
		t.Error("a directory was replaced")
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

func TestUndo(t *testing.T) {
	t.Parallel()
	var u Undo
	var order []string
	broken := errors.New("broken")
	add := func(name string, err error) {
		u.Add(name, func(context.Context) error { order = append(order, name); return err })
	}
	add("one", nil)
	add("two", broken)
	add("three", nil)
	err := u.Run(context.Background())
	if !errors.Is(err, broken) || err.Error() != "cannot undo two: broken" {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(order, []string{"three", "two", "one"}) || u.Len() != 0 {
		t.Errorf("order %v, %d left", order, u.Len())
	}
	add("never", nil)
	u.Discard()
	must(t, u.Run(context.Background()))
	if len(order) != 3 {
		t.Errorf("order %v", order)
	}
}

func TestSyncDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "units")
	want := map[string]File{
		"snap.a.service": {[]byte("1"), 0o644},
		"snap.b.service": {[]byte("2"), 0o644},
	}
	changed, removed, err := SyncDir(dir, "snap.*", want)
	must(t, err)
	if !slices.Equal(changed, []string{"snap.a.service", "snap.b.service"}) || removed != nil {
		t.Errorf("changed %v, removed %v", changed, removed)
	}
	must(t, os.WriteFile(filepath.Join(dir, "other.service"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "snap.a.service.d"), 0o755))
	must(t, os.Symlink("/dev/null", filepath.Join(dir, "snap.masked")))
	must(t, os.WriteFile(filepath.Join(dir, ".snap.c.service.1k2.tmp"), nil, 0o600))
	before, err := os.Stat(filepath.Join(dir, "snap.a.service"))
	must(t, err)
	want["snap.c.service"] = File{[]byte("3"), 0o600}
	delete(want, "snap.b.service")
	changed, removed, err = SyncDir(dir, "snap.*", want)
	must(t, err)
	if !slices.Equal(changed, []string{"snap.c.service"}) || !slices.Equal(removed, []string{"snap.b.service", "snap.masked"}) {
		t.Errorf("changed %v, removed %v", changed, removed)
	}
	after, err := os.Stat(filepath.Join(dir, "snap.a.service"))
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("what was right was written again")
	}
	left := []string{"other.service", "snap.a.service", "snap.a.service.d", "snap.c.service"}
	if got := names(t, dir); !slices.Equal(got, left) {
		t.Errorf("now there are %q", got)
	}
	if _, _, err := SyncDir(dir, "snap.*", map[string]File{"other": {}}); err == nil {
		t.Error("a name that the glob does not match was written")
	}
	if _, _, err := SyncDir(filepath.Join(dir, "none"), "*", nil); err != nil {
		t.Error(err)
	}
}

func TestSyncDirRestores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, n := range []string{"a", "b", "gone"} {
		must(t, os.WriteFile(filepath.Join(dir, n), []byte("old "+n), 0o644))
	}
	before, err := os.Stat(filepath.Join(dir, "a"))
	must(t, err)
	s := dirSync{dir: dir, glob: "*"}
	must(t, s.plan(map[string]File{"a": {[]byte("new"), 0o600}, "b": {[]byte("new"), 0o600}, "c": {[]byte("new"), 0o600}}))
	// The last replacement fails: its new content is lost.
	must(t, os.Remove(s.fresh["c"]))
	if err := s.apply(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	if content(t, filepath.Join(dir, "a")) != "new" {
		t.Fatal("nothing was replaced, so the test says nothing")
	}
	must(t, s.restore())
	s.cleanUp()
	for _, n := range []string{"a", "b", "gone"} {
		if got := content(t, filepath.Join(dir, n)); got != "old "+n {
			t.Errorf("%s is %q", n, got)
		}
	}
	after, err := os.Stat(filepath.Join(dir, "a"))
	must(t, err)
	if !os.SameFile(before, after) || after.Mode() != 0o644 {
		t.Error("the old file was not put back")
	}
	if got := names(t, dir); !slices.Equal(got, []string{"a", "b", "gone"}) {
		t.Errorf("left behind: %q", got)
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
