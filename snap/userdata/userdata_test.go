// SPDX-License-Identifier: Apache-2.0

package userdata

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"endured/snap"
)

// nobody is the user that the tests run as again when they are root's.
const nobody = 65534

// home is a user's home with the data of a snap called probe.
type home struct {
	t *testing.T
	User
}

func newHome(t *testing.T) *home {
	t.Helper()
	return &home{t, User{Home: t.TempDir(), UID: os.Getuid()}}
}

func (h *home) path(name string) string { return filepath.Join(h.Home, "snap/probe", name) }

func (h *home) write(name, data string) {
	h.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(h.path(name)), 0o700), os.WriteFile(h.path(name), []byte(data), 0o600)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) make(rev snap.Revision) {
	h.t.Helper()
	if err := h.Make(h.t.Context(), "probe", rev); err != nil {
		h.t.Fatal(err)
	}
	if link, err := os.Readlink(h.path("current")); link != rev.String() {
		h.t.Errorf("current is %q, %v; want %s", link, err, rev)
	}
}

// holds compares a file's content; "" is that there is none.
func (h *home) holds(name, want string) {
	h.t.Helper()
	got, err := os.ReadFile(h.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || string(got) != want {
		h.t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
	}
}

// names fails unless these are in ~/snap/probe.
func (h *home) names(want ...string) {
	h.t.Helper()
	entries, err := os.ReadDir(h.path("."))
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if err != nil || !slices.Equal(got, want) {
		h.t.Errorf("in ~/snap/probe: %v, %v; want %v", got, err, want)
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.make(-1)
	h.names("common", "current", "x1")
	h.write("x1/a", "one")
	h.make(-2)
	h.holds("x2/a", "one")
	h.write("x2/a", "two")
	h.make(-1) // a revert
	h.holds("x1/a", "one")
	h.write("x1/b", "later")
	h.make(-3) // comes from where the user was, not from the newest
	h.holds("x3/a", "one")
	h.holds("x3/b", "later")
	h.make(-2)
	h.holds("x2/a", "two")
	h.names("common", "current", "x1", "x2", "x3")
	if fi, err := os.Stat(h.path("x3")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func TestWithoutAUsableLinkTheNewestIsCopied(t *testing.T) {
	t.Parallel()
	for _, link := range []string{"", "x7", "../probe/x2", "common", "/etc", "x1x", "linked"} {
		h := newHome(t)
		for _, r := range []string{"x2", "x10", "900", "common"} {
			h.write(r+"/a", r)
		}
		if err := os.Symlink("x2", h.path("x99")); err != nil { // not a directory
			t.Fatal(err)
		}
		if link != "" {
			if err := os.Symlink(link, h.path("current")); err != nil {
				t.Fatal(err)
			}
		}
		h.make(-20)
		h.holds("x20/a", "x10")
		h.make(1000)
		h.holds("1000/a", "x10") // "current" says so
		if err := os.Remove(h.path("current")); err != nil {
			t.Fatal(err)
		}
		h.make(1001)
		h.holds("1001/a", "x10") // 1000's
	}
}

func TestNoLinkIsFollowed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"snap", "snap/probe", "snap/probe/common", "snap/probe/x1"} {
		h := newHome(t)
		outside := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(h.Home, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(h.Home, name)); err != nil {
			t.Fatal(err)
		}
		if err := h.Make(t.Context(), "probe", -1); err == nil {
			t.Errorf("%s was followed", name)
		}
		if entries, _ := os.ReadDir(outside); len(entries) > 0 {
			t.Errorf("%s: outside of home there is %v", name, entries)
		}
	}
	// Neither where the copy comes from and goes to.
	h := newHome(t)
	secret := t.TempDir()
	if err := os.WriteFile(filepath.Join(secret, "key"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.write("x1/a", "one")
	for link, to := range map[string]string{"x2": secret, "current": "x2", "x1/etc": secret, ".x3.copying": secret} {
		if err := os.Symlink(to, h.path(link)); err != nil {
			t.Fatal(err)
		}
	}
	h.make(-3)
	h.holds("x3/a", "one")
	if to, err := os.Readlink(h.path("x3/etc")); to != secret {
		t.Errorf("x3/etc is %q, %v", to, err)
	}
	if entries, err := os.ReadDir(secret); err != nil || len(entries) != 1 {
		t.Errorf("the link's target holds %v, %v", entries, err)
	}
}

func TestOnlyTheUsersDirectories(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.UID++
	if err := h.Make(t.Context(), "probe", -1); err == nil || !strings.Contains(err.Error(), "belongs to uid") {
		t.Errorf("directories of somebody else were used: %v", err)
	}
}

// TestFirstRunsTogether: they wait for one copy, and all find it whole.
func TestFirstRunsTogether(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for i := range 40 {
		h.write(fmt.Sprintf("x1/d%d/f", i), strings.Repeat("x", 1000*i))
	}
	h.write("x1/.last", "whole")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := h.Make(t.Context(), "probe", -2); err != nil {
				t.Error(err)
			}
			h.holds("x2/.last", "whole")
			if fi, err := os.Stat(h.path("x2/d39/f")); err != nil || fi.Size() != 39000 {
				t.Errorf("%v, %v", fi, err)
			}
		})
	}
	all.Wait()
	h.names("common", "current", "x1", "x2")
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("x1/a", "one")
	dir, err := os.Open(h.path("."))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Make(ctx, "probe", -2); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	h.names("x1")
}

// TestAsAnOrdinaryUser runs the tests below as one when this is root.
func TestAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("it is one")
	}
	dir, err := os.MkdirTemp("/tmp", "userdata-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self := filepath.Join(dir, "test")
	data, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = errors.Join(os.WriteFile(self, data, 0o755), os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "tmp"), 0o700),
			os.Chown(filepath.Join(dir, "tmp"), nobody, nobody))
	}
	// What root left in the user's home.
	mine := filepath.Join(dir, "tmp/snap/probe/x1")
	if err == nil {
		err = errors.Join(os.MkdirAll(mine, 0o700), os.WriteFile(filepath.Join(mine, "roots"), []byte("r"), 0o644),
			os.Symlink("roots", filepath.Join(mine, "link")), os.Mkdir(filepath.Join(mine, "dir"), 0o755),
			os.WriteFile(filepath.Join(mine, "dir/f"), []byte("f"), 0o604))
		for _, p := range []string{"snap", "snap/probe", "snap/probe/x1"} {
			err = errors.Join(err, os.Chown(filepath.Join(dir, "tmp", p), nobody, nobody))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Setxattr(filepath.Join(mine, "roots"), "trusted.x", []byte("x"), 0)
	_ = unix.Setxattr(filepath.Join(mine, "roots"), "security.x", []byte("x"), 0)
	cmd := exec.Command(self, "-test.run=^TestUser|^TestRevisions|^TestFirstRuns|^TestNoLink", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + filepath.Join(dir, "tmp"), "LEFT_BY_ROOT=" + filepath.Join(dir, "tmp")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestUserAfterRoot") {
		t.Errorf("%v\n%s", err, out)
	}
}

func asUser(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		t.Skip("TestAsAnOrdinaryUser runs it")
	}
}

// TestUserAfterRoot: the copy of what root left is the user's.
func TestUserAfterRoot(t *testing.T) {
	asUser(t)
	dir := os.Getenv("LEFT_BY_ROOT")
	if dir == "" {
		t.Skip("root left nothing")
	}
	h := &home{t, User{Home: dir, UID: os.Getuid()}}
	h.make(-2)
	h.holds("x2/roots", "r")
	h.holds("x2/link", "r")
	h.holds("x2/dir/f", "f")
	for _, n := range []string{"x2/roots", "x2/dir", "x2/dir/f", "x2/link"} {
		var st unix.Stat_t
		if err := unix.Lstat(h.path(n), &st); err != nil || int(st.Uid) != os.Getuid() {
			t.Errorf("%s belongs to %d, %v", n, st.Uid, err)
		}
	}
}

// TestUserReadOnlyTrees: what even its owner may not write to is copied, and an
// unfinished copy of it is removed.
func TestUserReadOnlyTrees(t *testing.T) {
	asUser(t)
	h := newHome(t)
	h.write("x1/cache/mod/file", "module")
	if err := os.Link(h.path("x1/cache/mod/file"), h.path("x1/cache/mod/again")); err != nil {
		t.Fatal(err)
	}
	_ = unix.Setxattr(h.path("x1/cache/mod/file"), "user.x", []byte("x"), 0)
	if err := os.Chmod(h.path("x1/cache/mod/file"), 0o400); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"x1/cache/mod", "x1/cache"} {
		if err := os.Chmod(h.path(n), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	h.make(-2)
	h.holds("x2/cache/mod/again", "module")
	if fi, err := os.Stat(h.path("x2/cache")); err != nil || fi.Mode().Perm() != 0o500 {
		t.Errorf("%v, %v", fi, err)
	}
	// One file that nobody can read, after the others.
	h.write("x2/zz", "unreadable")
	if err := os.Chmod(h.path("x2/zz"), 0); err != nil {
		t.Fatal(err)
	}
	err := h.Make(t.Context(), "probe", -3)
	var copying *CopyError
	if !errors.As(err, &copying) || !errors.Is(err, unix.EACCES) || copying.From != -2 {
		t.Errorf("unexpected %v", err)
	} else if want := `of snap "probe" from revision x2 to x3: cannot copy data of ` + h.path("x2") + `: "zz": permission denied`; !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	h.names("common", "current", "x1", "x2")
	if link, _ := os.Readlink(h.path("current")); link != "x2" {
		t.Errorf("current is %s", link)
	}
	if err := os.Chmod(h.path("x2/zz"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.make(-3)
	// What a crash left is in nobody's way.
	if err := os.Rename(h.path("x3"), h.path(".x7.copying")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(h.path("current")); err != nil {
		t.Fatal(err)
	}
	h.make(-4)
	h.names("common", "current", "x1", "x2", "x4")
	h.holds("x4/cache/mod/file", "module")
	// So that the test's directory can be removed.
	for _, r := range []string{"x1", "x2", "x4"} {
		_ = os.Chmod(h.path(r+"/cache"), 0o700)
		_ = os.Chmod(h.path(r+"/cache/mod"), 0o700)
	}
}
