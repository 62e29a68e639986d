// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"endured/interfaces/mount"
)

// actor is a shell in a mount namespace of its own, in which data is a mount of
// its own below a read-only one, as a service has it.
type actor struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	data  string
	place mount.Place
	ns    *mount.Namespace
}

func newActor(t *testing.T) *actor {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make mount namespaces")
	}
	top := t.TempDir()
	a := &actor{t: t, data: filepath.Join(top, "12")}
	if err := errors.Join(os.MkdirAll(filepath.Join(a.data, "sub"), 0o755), os.WriteFile(filepath.Join(a.data, "f"), []byte("x\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	a.cmd = exec.Command("unshare", "--mount", "bash")
	a.cmd.Stderr = os.Stderr
	a.in, _ = a.cmd.StdinPipe()
	out, _ := a.cmd.StdoutPipe()
	a.out = bufio.NewScanner(out)
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.in.Close()
		a.cmd.Wait()
	})
	a.must(fmt.Sprintf("mount --bind %s %s && mount -o remount,bind,ro %s && mount --bind %s %s && mount -o remount,bind,rw %s && cd %s/sub",
		top, top, top, a.data, a.data, a.data, a.data))
	var err error
	if a.place, err = mount.PlaceOf(a.data); err != nil {
		t.Fatal(err)
	}
	a.ns = a.namespace()
	return a
}

func (a *actor) namespace() *mount.Namespace {
	a.t.Helper()
	list, err := mount.Namespaces([]int{a.cmd.Process.Pid, os.Getpid()})
	if err != nil || len(list) != 1 || !slices.Equal(list[0].PIDs, []int{a.cmd.Process.Pid}) {
		a.t.Fatalf("namespaces: %v %v", list, err)
	}
	a.t.Cleanup(list[0].Close)
	return list[0]
}

// does tells whether a command succeeds in the actor itself.
func (a *actor) does(command string) bool {
	a.t.Helper()
	fmt.Fprintf(a.in, "{ %s; } >/dev/null 2>&1 && echo yes || echo no\n", command)
	if !a.out.Scan() {
		a.t.Fatal("the actor is gone")
	}
	return a.out.Text() == "yes"
}

func (a *actor) must(command string) {
	a.t.Helper()
	if !a.does(command) {
		a.t.Fatalf("cannot %s", command)
	}
}

func (a *actor) mustNot(command string) {
	a.t.Helper()
	if a.does(command) {
		a.t.Errorf("can %s", command)
	}
}

func (a *actor) makeReadOnly() []mount.State {
	a.t.Helper()
	changes, err := a.ns.MakeReadOnly(a.place, false)
	if err != nil {
		a.t.Fatal(err)
	}
	var states []mount.State
	for _, c := range changes {
		if c.Err != nil {
			a.t.Error(c.Err)
		}
		states = append(states, c.State)
	}
	return states
}

// mounts counts those of the actor's own tree: what other tests mount goes, in
// every namespace, with the directory that it is mounted on.
func (a *actor) mounts() int {
	a.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", a.cmd.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, " "+filepath.Dir(a.data)) {
			n++
		}
	}
	return n
}

func TestReadOnlyAndBack(t *testing.T) {
	t.Parallel()
	a := newActor(t)
	before, err := a.ns.ReadOnlyNow(a.place)
	if err != nil || len(before) != 0 {
		t.Fatal(before, err)
	}
	for range 2 {
		if got := a.makeReadOnly(); !slices.Equal(got, []mount.State{mount.ReadOnly}) {
			t.Errorf("states are %v", got)
		}
	}
	a.mustNot("echo >" + a.data + "/f")
	a.mustNot("echo >x")
	a.mustNot("rm -f ../f")
	a.must("cat ../f")
	if err := os.WriteFile(filepath.Join(a.data, "g"), nil, 0o644); err != nil {
		t.Error("the host cannot write: ", err)
	}
	if err := a.ns.MakeWritable(a.place, nil); err != nil {
		t.Fatal(err)
	}
	a.must("echo >" + a.data + "/f && echo >x")
}

// TestEveryMount: the place mounted elsewhere, and what of it is mounted alone,
// is found; what was read-only before stays so.
func TestEveryMount(t *testing.T) {
	t.Parallel()
	a := newActor(t)
	dir := t.TempDir()
	a.must(fmt.Sprintf("mkdir %s/alias %s/ro && mount --bind %s %s/alias && mount --bind %s/sub %s/ro && mount -o remount,bind,ro %s/ro",
		dir, dir, a.data, dir, a.data, dir, dir))
	before, err := a.ns.ReadOnlyNow(a.place)
	if err != nil || len(before) != 1 {
		t.Fatal(before, err)
	}
	if got := a.makeReadOnly(); len(got) != 3 {
		t.Errorf("states are %v", got)
	}
	a.mustNot("echo >" + dir + "/alias/f")
	a.mustNot("echo >" + a.data + "/f")
	if err := a.ns.MakeWritable(a.place, before); err != nil {
		t.Fatal(err)
	}
	a.must("echo >" + dir + "/alias/f")
	a.mustNot("echo >" + dir + "/ro/x")
}

// TestCover: an open file keeps a mount from becoming read-only. Once it is
// closed, the mount below the cover is found through who stands at its root.
func TestCover(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"", "sub"} {
		a := newActor(t)
		a.must("cd " + filepath.Join(a.data, where))
		a.must("exec 7>>" + a.data + "/f")
		had := a.mounts()
		for range 2 {
			if got := a.makeReadOnly(); !slices.Contains(got, mount.Covered) {
				t.Errorf("states are %v", got)
			}
		}
		a.mustNot("echo >" + a.data + "/f")
		a.must("echo x >&7")
		a.must("echo >x")
		pid := a.cmd.Process.Pid
		if by, err := a.ns.StandsIn(a.place, pid); err != nil || !slices.Contains(by, "cwd") {
			t.Errorf("stands by %v (%v)", by, err)
		}
		if where == "sub" { // the cover must be lifted, and comes back
			if _, err := a.ns.MakeReadOnly(a.place, true); err != nil || a.mounts() != had+1 {
				t.Errorf("%d mounts, had %d before the cover (%v)", a.mounts(), had, err)
			}
		}
		a.must("exec 7>&-")
		if c, err := a.ns.MakeReadOnly(a.place, true); err != nil || slices.ContainsFunc(c, func(c mount.Change) bool { return c.State != mount.ReadOnly }) {
			t.Errorf("%v %v", c, err)
		}
		a.mustNot("echo >x")
		if by, err := a.ns.StandsIn(a.place, pid); err != nil || len(by) != 0 {
			t.Errorf("stands by %v (%v)", by, err)
		}
		a.must("cd " + a.data) // into the cover, where there is one
		if err := a.ns.MakeWritable(a.place, nil); err != nil {
			t.Fatal(err)
		}
		a.must("echo >" + a.data + "/f && echo >y")
		if a.mounts() != had {
			t.Errorf("%d mounts, had %d", a.mounts(), had)
		}
	}
}

func TestGiveWritable(t *testing.T) {
	t.Parallel()
	a := newActor(t)
	next := filepath.Join(filepath.Dir(a.data), "13")
	if err := os.Mkdir(next, 0o755); err != nil {
		t.Fatal(err)
	}
	a.mustNot("echo >" + next + "/f")
	had := a.mounts()
	for range 2 {
		if err := a.ns.GiveWritable(next); err != nil {
			t.Fatal(err)
		}
	}
	a.must("echo >" + next + "/f")
	if a.mounts() != had+1 {
		t.Errorf("%d mounts, had %d", a.mounts(), had)
	}
}

// TestMainThreadStaysHome: no thread of this process that somebody could look
// at is left in another namespace.
func TestMainThreadStaysHome(t *testing.T) {
	t.Parallel()
	a := newActor(t)
	var home, now unix.Stat_t
	if err := unix.Stat("/proc/self/ns/mnt", &home); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		a.makeReadOnly()
		if err := unix.Stat("/proc/self/ns/mnt", &now); err != nil || now.Ino != home.Ino {
			t.Fatalf("this process has moved: %v", err)
		}
	}
}
