// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper is a process that lives until it is told to end. It has printed a
// line, so it is past its exec.
func sleeper(t *testing.T, script string, setup func(*exec.Cmd)) (cmd *exec.Cmd, end func()) {
	t.Helper()
	cmd = exec.Command("/bin/sh", "-c", script+"; echo; read _")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	if setup != nil {
		setup(cmd)
	}
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd, func() { in.Close() }
}

// TestOpenGroupOfGone: a process is gone, and others are still in the group and
// session that it led.
func TestOpenGroupOfGone(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/bin/sh", "-c", "cat <&3 &")
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	read, write, err := os.Pipe()
	must(t, err)
	defer write.Close() // ends the other one
	cmd.ExtraFiles = []*os.File{read}
	must(t, cmd.Start())
	must(t, errors.Join(read.Close(), cmd.Wait()))
	if _, err := OpenProcess(cmd.Process.Pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("opened the leader, which is gone: %v", err)
	}
}

func TestWaitExit(t *testing.T) {
	t.Parallel()
	cmd, end := sleeper(t, ":", nil)
	pid := cmd.Process.Pid
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() { result <- WaitExit(ctx, pid, nil) }()
	go func() { result <- WaitPIDs(ctx, []int{pid}) }()
	cancel()
	for range 2 {
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	asked := 0
	must(t, WaitExit(context.Background(), pid, func() bool { asked++; return asked < 2 }))
	if asked != 2 {
		t.Errorf("the guard was asked %d times", asked)
	}
	for range 3 {
		go func() { result <- WaitExit(context.Background(), pid, func() bool { return true }) }()
	}
	select {
	case err := <-result:
		t.Fatalf("it has not exited, but: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	end()
	for range 3 {
		must(t, <-result)
	}
	must(t, WaitPIDs(context.Background(), []int{pid})) // a zombie has exited
	cmd.Wait()
	must(t, WaitExit(context.Background(), pid, nil))
	if _, err := OpenProcess(pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("got %v", err)
	}
}

func TestSignal(t *testing.T) {
	t.Parallel()
	cmd, _ := sleeper(t, ":", nil)
	p, err := OpenProcess(cmd.Process.Pid)
	must(t, err)
	defer p.Close()
	must(t, p.Signal(unix.SIGKILL))
	must(t, p.Wait(context.Background()))
	cmd.Wait()
	if err := p.Signal(unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		t.Errorf("got %v", err)
	}
}

func TestProcFacts(t *testing.T) {
	t.Parallel()
	cmd, _ := sleeper(t, ":", func(c *exec.Cmd) { c.Env = []string{"A=1", "B=x=y"} })
	pid := cmd.Process.Pid
	env, err := Environ(pid)
	must(t, err)
	if env["A"] != "1" || env["B"] != "x=y" {
		t.Errorf("got %q", env)
	}
	mine, err := StartTime(os.Getpid())
	must(t, err)
	theirs, err := StartTime(pid)
	must(t, err)
	if mine == 0 || theirs < mine {
		t.Errorf("we started at %d, our child at %d", mine, theirs)
	}
	if _, err := StartTime(1 << 30); !gone(errors.Unwrap(err)) {
		t.Errorf("got %v", err)
	}
	pids, err := PIDs()
	must(t, err)
	if !slices.Contains(pids, pid) || !slices.Contains(pids, os.Getpid()) {
		t.Errorf("%d or %d is not in %v", pid, os.Getpid(), pids)
	}
}

func TestCgroup(t *testing.T) {
	t.Parallel()
	root, err := CgroupRoot()
	if err != nil {
		t.Skip(err)
	}
	top, err := os.MkdirTemp(root, "osutil-test-")
	if err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	below := filepath.Join(top, "below")
	must(t, os.Mkdir(below, 0o755))
	t.Cleanup(func() { os.Remove(below); os.Remove(top) })
	a, _ := sleeper(t, ":", nil)
	b, _ := sleeper(t, ":", nil)
	must(t, os.WriteFile(filepath.Join(top, "cgroup.procs"), []byte(strconv.Itoa(a.Process.Pid)), 0))
	must(t, os.WriteFile(filepath.Join(below, "cgroup.procs"), []byte(strconv.Itoa(b.Process.Pid)), 0))
	got, err := PIDsInCgroup(top)
	must(t, err)
	want := []int{a.Process.Pid, b.Process.Pid}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	path, err := CgroupOf(b.Process.Pid)
	must(t, err)
	if !strings.HasSuffix(path, filepath.Base(top)+"/below") {
		t.Errorf("got %q", path)
	}
	got, err = PIDsInCgroup(filepath.Join(top, "none"))
	if err != nil || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	ctx := context.Background()
	a, err := TakeLock(ctx, path, Shared)
	must(t, err)
	b, err := TryLock(path, Shared)
	must(t, err)
	if _, err := TryLock(path, Exclusive); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := TakeLock(short, path, Exclusive); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	got := make(chan *Lock)
	go func() {
		l, err := TakeLock(ctx, path, Exclusive)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	must(t, a.Unlock())
	select {
	case <-got:
		t.Error("locked while it is shared")
	case <-time.After(10 * time.Millisecond):
	}
	must(t, b.Unlock())
	must(t, (<-got).Unlock())
}

// TestLockOnAFileThatIsReplaced: who waited on the removed file must not
// believe that it has the lock.
func TestLockOnAFileThatIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	old, err := TryLock(path, Exclusive)
	must(t, err)
	got := make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, err := TakeLock(ctx, path, Exclusive)
		got <- err
	}()
	time.Sleep(10 * time.Millisecond) // until it probably waits; else the test is only weaker
	must(t, os.Remove(path))
	fresh, err := TryLock(path, Exclusive)
	must(t, err)
	defer fresh.Unlock()
	must(t, old.Unlock())
	select {
	case err := <-got:
		t.Errorf("locked twice: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// privately runs a shell script in its own mount namespace, with  a
// directory on which it may mount.
func privately(t *testing.T, script string) (pid int, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts are root's")
	}
	dir = t.TempDir()
	cmd, _ := sleeper(t, strings.ReplaceAll(script, "DIR", dir), func(c *exec.Cmd) {
		c.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		c.Stderr = os.Stderr
	})
	return cmd.Process.Pid, dir
}

func TestHolders(t *testing.T) {
	t.Parallel()
	pid, dir := privately(t, "mount -t tmpfs tmpfs DIR && cd DIR && exec 7>DIR/open")
	dev, _, ok := devOf(procPath(pid, "root") + dir)
	if !ok {
		t.Fatal("the mount is not there")
	}
	holders, err := HoldersOf(dev)
	must(t, err)
	if len(holders) != 1 || holders[0].PID != pid || holders[0].Comm != "sh" {
		t.Fatalf("got %+v", holders)
	}
	want := []Use{{"cwd", dir}, {"fd/7", dir + "/open"}}
	if !slices.Equal(holders[0].Uses, want) {
		t.Errorf("got %+v, want %+v", holders[0].Uses, want)
	}
	spaces, err := MountNamespacesWith(dev)
	must(t, err)
	if len(spaces) != 1 || !slices.Equal(spaces[0].PIDs, []int{pid}) || len(spaces[0].Mounts) != 1 || spaces[0].Mounts[0].Point != dir {
		t.Errorf("got %+v", spaces)
	}
	if m, err := MountedAt(dir); m != nil || err != nil {
		t.Errorf("in our namespace: %+v, %v", m, err)
	}
	// A process's own mapping and executable.
	self, _, _ := devOf("/proc/self/exe")
	all, err := HoldersOf(self)
	must(t, err)
	i := slices.IndexFunc(all, func(h Holder) bool { return h.PID == os.Getpid() })
	if i < 0 {
		t.Fatal("we do not hold our own executable")
	}
	var how []string
	for _, u := range all[i].Uses {
		how = append(how, u.What)
	}
	if !slices.Contains(how, "exe") || !slices.Contains(how, "map") {
		t.Errorf("got %v", all[i].Uses)
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	pid, dir := privately(t, "mkdir 'DIR/a b' && mount -t tmpfs one 'DIR/a b' && mount -t tmpfs -o nosuid two 'DIR/a b'")
	mounts, err := Mounts(pid)
	must(t, err)
	m := topmost(mounts, dir+"/a b")
	if m == nil || m.Source != "two" || m.FSType != "tmpfs" || m.Root != "/" || !strings.Contains(m.Options, "nosuid") {
		t.Fatalf("got %+v", m)
	}
	if m.Parent == 0 || m.Dev() == 0 {
		t.Errorf("got %+v", m)
	}
	if m, err := MountedAt("/proc/"); err != nil || m == nil || m.FSType != "proc" {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, bad := range []string{"x", "1 2 3:4 / / rw", "1 2 3 / / rw - a b c"} {
		if _, err := ParseMounts(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	long := "1 2 3:4 / / rw shared:1 - overlay o " + strings.Repeat("x", 100_000) + "\n"
	if got, err := ParseMounts(io.MultiReader(strings.NewReader(long))); err != nil || len(got) != 1 || got[0].Tags[0] != "shared:1" {
		t.Errorf("got %v, %v", got, err)
	}
	dev, err := ParseDev("259:3")
	if err != nil || dev != unix.Mkdev(259, 3) {
		t.Errorf("got %d, %v", dev, err)
	}
}
