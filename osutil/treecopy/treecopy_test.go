// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// populate makes one of everything that is kept.
func (f *fixture) populate() {
	t := f.t
	f.write("empty", "")
	f.write("plain", "plain\n")
	f.write("dir/sub/large", strings.Repeat("0123456789abcdef", 70_000))
	f.write("owned", "theirs")
	must(t, os.Chown(f.path("owned"), 12345, 54321))
	must(t, os.Chmod(f.path("owned"), 0o640))
	f.write("name with\nnewline \xff", "odd")
	f.write("linked", "one inode")
	must(t, os.Link(f.path("linked"), f.path("dir/linked-too")))
	must(t, os.Link(f.path("linked"), f.path("dir/sub/and-again")))
	must(t, os.Symlink("/etc/passwd", f.path("absolute")))
	must(t, os.Symlink("../nowhere", f.path("dangling")))
	must(t, os.Lchown(f.path("dangling"), 7, 8))
	must(t, unix.Mkfifo(f.path("fifo"), 0o600))
	must(t, os.Mkdir(f.path("shared"), 0o755))
	must(t, unix.Chmod(f.path("shared"), 0o3775))
	must(t, os.Chown(f.path("shared"), 0, 100))
	must(t, os.Mkdir(f.path("closed"), 0o000))
	f.sparse("sparse")
	must(t, os.WriteFile(f.path("hole"), nil, 0o600))
	must(t, os.Truncate(f.path("hole"), 1<<20))
	must(t, unix.Setxattr(f.path("plain"), "user.colour", []byte("blue"), 0))
	must(t, unix.Setxattr(f.path("plain"), "user.empty", nil, 0))
	must(t, unix.Setxattr(f.path("dir"), "trusted.note", []byte{0, 1, 2}, 0))
	must(t, unix.Lsetxattr(f.path("dangling"), "trusted.link", []byte("l"), 0))
	f.setfacl("-m", "u:4711:rw,g:815:r", "owned")
	f.setfacl("-d", "-m", "u:4711:rwx", "shared")
	f.write("shared/inherits", "an ACL")
	f.write("shared/loses", "an ACL")
	f.setfacl("-b", "shared/loses")
	old := time.Unix(1_000_000_000, 123_456_789)
	for _, name := range []string{"plain", "dir/sub", "owned", "shared"} {
		must(t, os.Chtimes(f.path(name), old.Add(time.Hour), old))
	}
	ts := []unix.Timespec{{Sec: 5, Nsec: 6}, {Sec: 7, Nsec: 8}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, f.path("dangling"), ts, unix.AT_SYMLINK_NOFOLLOW))
}

func (f *fixture) sparse(name string) {
	file, err := os.Create(f.path(name))
	must(f.t, err)
	defer file.Close()
	must(f.t, file.Truncate(6<<20)) // first: xfs takes room ahead of who writes at the end
	for _, at := range []int64{0, 1 << 20, 3 << 20} {
		_, err := file.WriteAt([]byte(strings.Repeat("x", 8192)), at)
		must(f.t, err)
	}
}

func (f *fixture) setfacl(args ...string) {
	f.t.Helper()
	last := len(args) - 1
	args[last] = f.path(args[last])
	if out, err := exec.Command("setfacl", args...).CombinedOutput(); err != nil {
		f.t.Fatalf("setfacl (package acl) %v: %v\n%s", args, err, out)
	}
}

// places are file systems of both kinds: one whose times are believed (the
// temporary directory's, usually ext4) and tmpfs.
func places(t *testing.T) map[string]string {
	shm, err := os.MkdirTemp("/dev/shm", "treecopy-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(shm) })
	return map[string]string{"disk": t.TempDir(), "tmpfs": shm}
}

func TestEverythingIsKept(t *testing.T) {
	t.Parallel()
	for name, base := range places(t) {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, base)
			f.populate()
			must(t, f.c.First(context.Background()))
			f.compare()
			f.differences()
			must(t, f.c.Complete(context.Background()))
			f.compare()
			if _, err := os.Lstat(f.c.Temporary()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the temporary is still there: %v", err)
			}
			if notes := f.c.Notes(); len(notes) > 0 {
				t.Errorf("unexpected notes %v", notes)
			}
		})
	}
}

func TestPowerIsDropped(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.write("setuid", "#!/bin/sh")
	must(t, unix.Chmod(f.path("setuid"), 0o6755))
	f.write("capable", "x")
	// struct vfs_cap_data, revision 2: CAP_NET_RAW permitted, effective.
	raw := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	must(t, unix.Setxattr(f.path("capable"), capability, raw, 0))
	must(t, unix.Mknod(f.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	l, err := net.Listen("unix", f.path("socket"))
	must(t, err)
	defer l.Close()
	f.first()
	f.differences()
	must(t, f.c.Complete(context.Background()))
	var got []string
	for _, n := range f.c.Notes() {
		got = append(got, n.Path+": "+n.Reason)
	}
	want := []string{
		"capable: file capabilities are dropped",
		"null: devices are not copied",
		"setuid: set-user-ID and set-group-ID are dropped",
		"socket: sockets are not copied",
	}
	if !slices.Equal(got, want) {
		t.Errorf("notes %q, want %q", got, want)
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(f.dst, "setuid"), &st))
	if st.Mode != unix.S_IFREG|0o755 {
		t.Errorf("mode of the copy is %o", st.Mode)
	}
	if _, err := unix.Getxattr(filepath.Join(f.dst, "capable"), capability, make([]byte, 32)); err != unix.ENODATA {
		t.Errorf("capability of the copy: %v", err)
	}
	for _, name := range []string{"null", "socket"} {
		if _, err := os.Lstat(filepath.Join(f.dst, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is in the copy", name)
		}
	}
}

func TestTemporaryIsClosedToOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	must(t, os.Chmod(f.src, 0o777))
	f.first()
	info, err := os.Stat(f.c.Temporary())
	must(t, err)
	if info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("mode is %v", info.Mode())
	}
	must(t, f.c.Abandon())
	must(t, f.c.Abandon())
	if _, err := os.Lstat(f.c.Temporary()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary is still there: %v", err)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	f := newFixture(t, t.TempDir())
	f.write("a", "b")
	if err := f.c.Complete(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a copy: %v", err)
	}
	f.first()
	must(t, os.WriteFile(f.dst, nil, 0o600))
	if err := f.c.Complete(ctx); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	must(t, os.Remove(f.dst))
	must(t, os.MkdirAll(filepath.Join(f.dst, "used"), 0o700))
	if err := f.c.Complete(ctx); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a directory that is not empty: %v", err)
	}
	must(t, os.Remove(filepath.Join(f.dst, "used")))
	must(t, f.c.Complete(ctx))
	f.compare()
}

func TestDifferencesAloneAfterACrash(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.populate()
	f.first()
	// Another process finds half a copy of something else.
	tree := filepath.Join(f.c.Temporary(), treeName)
	must(t, os.WriteFile(filepath.Join(tree, "plain"), []byte("wrong\n"), 0o600))
	must(t, os.Remove(filepath.Join(tree, "dir/sub/large")))
	must(t, os.WriteFile(filepath.Join(tree, "extra"), nil, 0o600))
	f.c = New(f.src, f.dst, Options{})
	f.differences()
	must(t, f.c.Complete(context.Background()))
	f.compare()
}

func TestNotEnoughSpace(t *testing.T) {
	t.Parallel()
	privateMounts(t)
	base := t.TempDir()
	must(t, unix.Mount("tmpfs", base, "tmpfs", 0, "size=12m,nr_inodes=100"))
	defer unix.Unmount(base, unix.MNT_DETACH)
	f := newFixture(t, base)
	f.write("big", strings.Repeat("x", 7<<20))
	err := f.c.First(context.Background())
	var full *NoSpaceError
	if !errors.As(err, &full) || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if full.Needed < 7<<20+reserved || full.Free > 5<<20 || !strings.Contains(err.Error(), "cannot copy data of "+f.src+": no space left on device (needs 11") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(f.c.Temporary()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary is still there: %v", err)
	}
	// What fits at first may have grown by the second pass.
	must(t, os.Truncate(f.path("big"), 3<<20))
	f.first()
	f.write("more", strings.Repeat("x", 4<<20))
	_, err = f.c.Differences(context.Background())
	if !errors.As(err, &full) {
		t.Errorf("got %v", err)
	}
	must(t, f.c.Abandon())
	must(t, os.Remove(f.path("big")))
	must(t, os.Remove(f.path("more")))
	for i := range 60 {
		f.write(filepath.Join("many", string(rune('A'+i))), "")
	}
	err = f.c.First(context.Background())
	if !errors.As(err, &full) || full.NeededFiles < 60 {
		t.Errorf("got %v", err)
	}
}

// TestReserve: between the passes the disk fills; what changed still fits.
func TestReserve(t *testing.T) {
	t.Parallel()
	privateMounts(t)
	base := t.TempDir()
	must(t, unix.Mount("tmpfs", base, "tmpfs", 0, "size=12m"))
	defer unix.Unmount(base, unix.MNT_DETACH)
	f := newFixture(t, base)
	f.write("log", strings.Repeat("x", 1<<20))
	must(t, f.c.First(context.Background()))
	f.write("log", strings.Repeat("y", 3<<19))
	if err := os.WriteFile(filepath.Join(base, "filler"), make([]byte, 12<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	f.differences()
	must(t, f.c.Complete(context.Background()))
	f.compare()
}

func TestMountsAreNotEntered(t *testing.T) {
	t.Parallel()
	privateMounts(t)
	f := newFixture(t, t.TempDir())
	f.write("dir/file", "ours")
	f.write("single", "ours")
	secret := t.TempDir()
	must(t, os.WriteFile(filepath.Join(secret, "file"), []byte("theirs"), 0o600))
	must(t, unix.Mount(secret, f.path("dir"), "", unix.MS_BIND, ""))
	defer unix.Unmount(f.path("dir"), unix.MNT_DETACH)
	must(t, unix.Mount(filepath.Join(secret, "file"), f.path("single"), "", unix.MS_BIND, ""))
	defer unix.Unmount(f.path("single"), unix.MNT_DETACH)
	f.first()
	must(t, f.c.Complete(context.Background()))
	entries, err := os.ReadDir(f.dst)
	must(t, err)
	if len(entries) > 0 || len(f.c.Notes()) != 2 {
		t.Errorf("copied %v, notes %v", entries, f.c.Notes())
	}
	if err := Remove(context.Background(), f.src); !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EBUSY) {
		t.Errorf("removal of a mount: %v", err)
	}
	if _, err := os.Stat(filepath.Join(secret, "file")); err != nil {
		t.Error(err)
	}
}

// TestDeeperThanAnyPath has paths of 11 000 bytes and far more directories
// than are open at a time.
func TestDeeperThanAnyPath(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	const depth = 500
	fd, err := openRoot(f.src)
	must(t, err)
	for range depth {
		name := "a-name-of-21-letters-"
		must(t, unix.Mkdirat(fd, name, 0o700))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
		file, err := unix.Openat(fd, "file", unix.O_WRONLY|unix.O_CREAT, 0o600)
		must(t, err)
		unix.Close(file)
	}
	must(t, unix.Linkat(fd, "file", fd, "file-too", 0))
	f.age()
	f.first()
	must(t, unix.Unlinkat(fd, "file", 0))
	must(t, unix.Linkat(fd, "file-too", fd, "file-three", 0))
	unix.Close(fd)
	s := f.differences()
	if s.Copied != 2 || s.Removed != 1 || s.Unchanged < 2*depth-2 {
		t.Errorf("unexpected %+v", s)
	}
	want, err := Needed(context.Background(), f.src)
	must(t, err)
	must(t, f.c.Complete(context.Background()))
	got, err := Needed(context.Background(), f.dst)
	must(t, err)
	if want != got || got.Files != 2*depth+1 {
		t.Errorf("source is %+v, copy %+v", want, got)
	}
	for _, dir := range []string{f.src, f.dst} {
		must(t, Remove(context.Background(), dir))
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

func TestRemoveTakesFlaggedFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.write("dir/sealed", "x")
	f.write("dir/sub/sealed", "x")
	for _, name := range []string{"dir/sealed", "dir/sub/sealed", "dir/sub", "dir"} {
		file, err := os.Open(f.path(name))
		must(t, err)
		if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, int(Immutable)); err != nil {
			t.Skipf("no immutable flag here: %v", err)
		}
		file.Close()
	}
	if err := os.RemoveAll(f.src); err == nil {
		t.Fatal("the flags do not hold")
	}
	must(t, Remove(context.Background(), f.src))
	must(t, Remove(context.Background(), f.src))
	must(t, Remove(context.Background(), filepath.Join(f.src, "below", "nothing")))
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.write("a", "b")
	ctx, cancel := context.WithCancel(context.Background())
	f.first()
	cancel()
	if _, err := f.c.Differences(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.write("a", "c")
	f.differences() // from the beginning: the copy was not to be relied on
	f.compare()
}

func TestProgress(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.write("a", strings.Repeat("x", 3<<20))
	var last, sum int64
	f.c.opts.Progress = func(done, total int64) {
		if done < last || done > total {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last, sum = done, total
	}
	f.first()
	if last != sum || sum < 3<<20 {
		t.Errorf("ended at %d of %d", last, sum)
	}
}
