// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"7": 7, "3K": 3 << 10, "256M": 256 << 20, "2G": 2 << 30} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%s is %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "G", "-1M", "0", "1T", "many"} {
		if _, err := parseSize(in); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}

func TestParseNamed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--x", "1", "dev", "cmd", "--x", "2"}, {"dev", "--x", "1", "cmd", "--x", "2"}} {
		f := flag.NewFlagSet("exec", flag.ContinueOnError)
		x := f.String("x", "", "")
		name, rest, err := parseNamed(f, args)
		if err != nil || name != "dev" || *x != "1" || strings.Join(rest, " ") != "cmd --x 2" {
			t.Errorf("%q: %q %q x=%q %v", args, name, rest, *x, err)
		}
	}
	if _, _, err := parseNamed(flag.NewFlagSet("stop", flag.ContinueOnError), nil); err == nil {
		t.Error("no name is accepted")
	}
}

func testHost(t *testing.T) *host {
	t.Helper()
	return &host{dir: t.TempDir(), uppers: t.TempDir(), cgroups: t.TempDir()}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	h := testHost(t)
	if _, err := h.load("a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a device that is not there: %v", err)
	}
	for _, name := range []string{"", "..", "a/b", "A", "-a"} {
		if _, err := h.load(name); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("the name %q is used: %v", name, err)
		}
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	r := &record{Name: "a", PID: pid, Birth: birth(pid), Owner: os.Getpid(), OwnerBirth: birth(os.Getpid())}
	if err := os.Mkdir(h.path("a"), 0755); err != nil {
		t.Fatal(err)
	}
	if err := h.save(r); err != nil {
		t.Fatal(err)
	}
	got, err := h.load("a")
	if err != nil || *got != *r {
		t.Fatalf("got %+v, %v", got, err)
	}
	if !got.running() || got.orphaned() {
		t.Error("a living process is taken for dead")
	}
	reused := *r
	reused.Birth, reused.OwnerBirth = "1", "1"
	if reused.running() || !reused.orphaned() {
		t.Error("a PID used again is taken for the same process")
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := awaitExit(short, pid); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a process that lives on: %v", err)
	}
	cmd.Process.Kill()
	if err := awaitExit(context.Background(), pid); err != nil {
		t.Fatal(err)
	}
	if got.running() {
		t.Error("a zombie is taken for alive")
	}
	cmd.Wait()
	if err := awaitExit(context.Background(), pid); err != nil {
		t.Errorf("waiting for a process that is gone: %v", err)
	}
}

func TestLockKeepsOthersOut(t *testing.T) {
	t.Parallel()
	h := testHost(t)
	unlock, err := h.lock(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.lock(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second lock: %v", err)
	}
	// A stop removes the file before it unlocks: who waited must not hold the removed one.
	got := make(chan func(), 1)
	go func() {
		if u, err := h.lock(context.Background(), "a"); err == nil {
			got <- u
		}
		close(got)
	}()
	os.Remove(h.path("a.lock"))
	unlock()
	second, ok := <-got
	if !ok {
		t.Fatal("the lock cannot be had after it was released")
	}
	if _, err := os.Stat(h.path("a.lock")); err != nil {
		t.Errorf("the lock that is held has no file: %v", err)
	}
	second()
}

func TestHide(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "a/b"), 0755)
	os.WriteFile(filepath.Join(dir, "a/f"), nil, 0644)
	os.Symlink("a", filepath.Join(dir, "link"))
	for _, name := range []string{"link", "new/one"} {
		if err := hide(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(entries) != 0 {
			t.Errorf("%s shows %v, %v", name, entries, err)
		}
	}
}
