// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"endured/tests/lib/machines"
)

func testHost(t *testing.T) *host {
	t.Helper()
	return &host{Dir: machines.Dir{Path: t.TempDir(), Kind: "device"}, uppers: t.TempDir(), cgroups: t.TempDir()}
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
	r := &record{Record: machines.Record{Name: "a"}}
	r.SetPID(pid)
	r.SetOwner(os.Getpid())
	if err := os.Mkdir(h.Of("a"), 0755); err != nil {
		t.Fatal(err)
	}
	if err := h.save(r); err != nil {
		t.Fatal(err)
	}
	got, err := h.load("a")
	if err != nil || *got != *r {
		t.Fatalf("got %+v, %v", got, err)
	}
	if !got.Running() || got.Orphaned() {
		t.Error("a living process is taken for dead")
	}
	reused := *r
	reused.Birth, reused.OwnerBirth = "1", "1"
	if reused.Running() || !reused.Orphaned() {
		t.Error("a PID used again is taken for the same process")
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := machines.AwaitExit(short, pid); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a process that lives on: %v", err)
	}
	cmd.Process.Kill()
	if err := machines.AwaitExit(context.Background(), pid); err != nil {
		t.Fatal(err)
	}
	if got.Running() {
		t.Error("a zombie is taken for alive")
	}
	cmd.Wait()
	if err := machines.AwaitExit(context.Background(), pid); err != nil {
		t.Errorf("waiting for a process that is gone: %v", err)
	}
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
