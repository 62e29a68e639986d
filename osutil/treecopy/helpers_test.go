// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testSettle is long enough for any kernel's tick.
const testSettle = 20 * time.Millisecond

// fixture is a source and a Copier for it.
type fixture struct {
	t        testing.TB
	src, dst string
	c        *Copier
}

func newFixture(t testing.TB, base string) *fixture {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("owners, devices and trusted attributes are root's")
	}
	f := &fixture{t: t, src: filepath.Join(base, "12"), dst: filepath.Join(base, "13")}
	must(t, os.Mkdir(f.src, 0o755))
	f.c = New(f.src, f.dst, Options{})
	f.c.settle = testSettle
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) path(name string) string { return filepath.Join(f.src, name) }

func (f *fixture) write(name, data string) {
	f.t.Helper()
	must(f.t, os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	must(f.t, os.WriteFile(f.path(name), []byte(data), 0o644))
}

// age lets what was written so far become settled.
func (f *fixture) age() {
	f.t.Helper()
	must(f.t, wait(context.Background(), testSettle+10*time.Millisecond))
}

// first leaves out the sync, which waits for all that others write.
func (f *fixture) first() {
	f.t.Helper()
	must(f.t, f.c.first(context.Background()))
}

func (f *fixture) differences() Stats {
	f.t.Helper()
	s, err := f.c.Differences(context.Background())
	must(f.t, err)
	return s
}

// compare fails unless the copy, complete or not, equals the source.
func (f *fixture) compare() {
	f.t.Helper()
	dst := f.dst
	if _, err := os.Lstat(dst); err != nil {
		dst = filepath.Join(f.c.Temporary(), treeName)
	}
	want, got := snapshot(f.t, f.src), snapshot(f.t, dst)
	for name, w := range want {
		if got[name] != w {
			f.t.Errorf("%q:\n  source %s\n  copy   %s", name, w, got[name])
		}
		delete(got, name)
	}
	for name, g := range got {
		f.t.Errorf("%q is only in the copy: %s", name, g)
	}
}

// snapshot describes every file below root in one comparable line.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	names := make(map[uint64][]string)
	inodes := make(map[string]uint64)
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		line := fmt.Sprintf("mode=%o uid=%d gid=%d mtime=%d", st.Mode, st.Uid, st.Gid, st.Mtim.Nano())
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			line += fmt.Sprintf(" atime=%d size=%d sha=%x segments=%v", st.Atim.Nano(), st.Size, digest(t, path), segments(t, path))
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			line += " target=" + target
		}
		a := attrs{path: path}
		xs, err := a.read()
		must(t, err)
		line += fmt.Sprintf(" attrs=%q", xs)
		all[rel] = line
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			names[st.Ino] = append(names[st.Ino], rel)
			inodes[rel] = st.Ino
		}
		return nil
	}))
	for rel, ino := range inodes {
		slices.Sort(names[ino])
		all[rel] += " names=" + strings.Join(names[ino], ",")
	}
	return all
}

func openQuietly(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	must(t, err)
	return f
}

func digest(t testing.TB, path string) [32]byte {
	f := openQuietly(t, path)
	defer f.Close()
	h := sha256.New()
	_, err := f.WriteTo(h)
	must(t, err)
	return [32]byte(h.Sum(nil))
}

// segments lists where a sparse file has data; a file without holes is "all".
func segments(t testing.TB, path string) string {
	f := openQuietly(t, path)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	var s []string
	for at := int64(0); at < info.Size(); {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err != nil {
			break
		}
		end, err := unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
		must(t, err)
		if begin == 0 && end == info.Size() {
			return "all"
		}
		s = append(s, fmt.Sprintf("%d-%d", begin, end))
		at = end
	}
	return strings.Join(s, ",")
}

// privateMounts gives the test a mount namespace of its own, on a thread that
// ends with it.
func privateMounts(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts are root's")
	}
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}
