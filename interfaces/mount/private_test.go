// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"endured/interfaces/mount"
)

// inPrivate runs do on a thread that has these parts, and is thrown away.
func inPrivate(t *testing.T, parts []mount.Part, do func(moved bool, left []error, err error)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make mount namespaces")
	}
	done := make(chan struct{})
	var run func()
	run = func() {
		defer close(done)
		runtime.LockOSThread()
		moved, left, err := mount.Private(parts)
		do(moved, left, err)
	}
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // it cannot end, and would stay there
			go run()
			<-done
			runtime.UnlockOSThread()
			return
		}
		run()
	}()
	<-done
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	for _, d := range []string{"all/own", "all/other", "run/shown", "run/hidden"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "run/socket"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(p string) string { return filepath.Join(top, p) }
	inPrivate(t, []mount.Part{
		{Source: at("run/socket"), Target: at("run/deep/socket")}, {Source: at("run/shown"), Target: at("run/shown"), ReadOnly: true},
		{Source: at("all/own"), Target: at("all/own")}, {Source: at("all"), Target: at("all"), ReadOnly: true},
		{Target: at("run")}, {Source: at("nothing"), Target: at("all/nothing"), Optional: true},
		{Source: at("all/other"), Target: at("all/own/made")},
	}, func(moved bool, left []error, err error) {
		if err != nil || moved || len(left) > 0 {
			t.Fatalf("%v, moved %v, left %v", err, moved, left)
		}
		write := func(p string) error { return os.WriteFile(at(p), []byte("y"), 0o644) }
		for p, want := range map[string]error{
			"all/own/f": nil, "all/f": unix.EROFS, "all/other/f": unix.EROFS, "all/own/made/f": nil, "run/f": nil, "run/shown/f": unix.EROFS,
			"run/hidden/f": unix.ENOENT, "run/deep/socket": nil, "run/socket": nil,
		} {
			if err := write(p); !errors.Is(err, want) {
				t.Errorf("writing %s: %v, want %v", p, err, want)
			}
		}
	})
	for p, there := range map[string]bool{"all/own/f": true, "all/other/f": true, "run/f": false, "run/hidden": true} {
		if _, err := os.Lstat(at(p)); (err == nil) != there {
			t.Errorf("on the host %s: %v", p, err)
		}
	}
}

// TestPrivateFollowsNoLinks: a snap may have put one where it can write.
func TestPrivateFollowsNoLinks(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(top, "dir"), 0o755), os.Symlink("/etc", filepath.Join(top, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, p := range []mount.Part{
		{Source: filepath.Join(top, "link"), Target: filepath.Join(top, "dir")}, {Source: filepath.Join(top, "dir"), Target: filepath.Join(top, "link")},
		{Source: filepath.Join(top, "link/apt"), Target: filepath.Join(top, "dir")}, {Source: filepath.Join(top, "dir"), Target: filepath.Join(top, "link/new")},
	} {
		inPrivate(t, []mount.Part{p}, func(_ bool, _ []error, err error) {
			if err == nil || !strings.Contains(err.Error(), "symbolic link") {
				t.Errorf("%+v: %v", p, err)
			}
		})
	}
}

// TestPrivateLeavesOut: what another snap has spoiled is not to keep this one from
// running.
func TestPrivateLeavesOut(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	at := func(p string) string { return filepath.Join(top, p) }
	if err := errors.Join(os.MkdirAll(at("theirs/good"), 0o755), os.Symlink("/etc", at("theirs/bad"))); err != nil {
		t.Fatal(err)
	}
	inPrivate(t, []mount.Part{
		{Source: at("theirs/bad"), Within: at("theirs"), Target: at("bad")}, {Source: at("theirs/good"), Within: at("theirs"), Target: at("good")},
	}, func(_ bool, left []error, err error) {
		if err != nil || len(left) != 1 || !strings.Contains(left[0].Error(), "cannot show "+at("theirs/bad")+" at "+at("bad")+": a symbolic link leads out of "+at("theirs")) {
			t.Errorf("%v, left %v", err, left)
		}
		if err := os.WriteFile(at("good/f"), nil, 0o644); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Lstat(at("theirs/good/f")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(at("bad")); err == nil {
		t.Error("a place was made for what is not shown")
	}
}

// TestPrivateClosed: while the file is there, what it closes can only be read.
func TestPrivateClosed(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	at := func(p string) string { return filepath.Join(top, p) }
	if err := errors.Join(os.MkdirAll(at("theirs"), 0o755), os.MkdirAll(at("run/seal"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, closed := range []bool{false, true} {
		if closed {
			if err := os.WriteFile(at("run/seal/it"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		part := mount.Part{Source: at("theirs"), Within: at("theirs"), Target: at("seen"), Closed: at("run/seal/it")}
		inPrivate(t, []mount.Part{part, {Target: at("run")}}, func(_ bool, _ []error, err error) {
			if err != nil {
				t.Fatal(err)
			}
			err = os.WriteFile(at("seen/f"), nil, 0o644)
			if errors.Is(err, unix.EROFS) != closed {
				t.Errorf("closed %v: %v", closed, err)
			}
		})
	}
}
