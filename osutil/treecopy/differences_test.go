// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDifferences(t *testing.T) {
	t.Parallel()
	old := time.Unix(1_000_000_000, 5)
	cases := []struct {
		name   string
		change func(t *testing.T, f *fixture)
	}{
		{"nothing", func(t *testing.T, f *fixture) {}},
		{"same size and mtime", func(t *testing.T, f *fixture) {
			f.write("plain", "PLAIN\n")
			must(t, os.Chtimes(f.path("plain"), old, old))
		}},
		{"shorter", func(t *testing.T, f *fixture) { must(t, os.Truncate(f.path("dir/sub/large"), 5000)) }},
		{"longer", func(t *testing.T, f *fixture) { must(t, os.Truncate(f.path("plain"), 1<<20)) }},
		{"hole punched", func(t *testing.T, f *fixture) {
			file, err := os.OpenFile(f.path("dir/sub/large"), os.O_RDWR, 0)
			must(t, err)
			defer file.Close()
			must(t, unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<19, 1<<18))
		}},
		{"all data gone", func(t *testing.T, f *fixture) {
			must(t, os.Truncate(f.path("dir/sub/large"), 0))
			must(t, os.Truncate(f.path("dir/sub/large"), 1<<20))
		}},
		{"file to directory", func(t *testing.T, f *fixture) {
			must(t, os.Remove(f.path("plain")))
			f.write("plain/inside", "x")
		}},
		{"directory to link", func(t *testing.T, f *fixture) {
			must(t, os.RemoveAll(f.path("dir")))
			must(t, os.Symlink("/etc", f.path("dir")))
		}},
		{"link to file", func(t *testing.T, f *fixture) {
			must(t, os.Remove(f.path("absolute")))
			f.write("absolute", "x")
		}},
		{"link to another target", func(t *testing.T, f *fixture) {
			must(t, os.Remove(f.path("absolute")))
			must(t, os.Symlink("/etc/passwd", f.path("absolute")))
			must(t, os.Remove(f.path("dangling")))
			must(t, os.Symlink("../knowhow", f.path("dangling")))
		}},
		{"replaced by rename", func(t *testing.T, f *fixture) {
			f.write("tmp", "PLAIN\n")
			must(t, os.Rename(f.path("tmp"), f.path("plain")))
		}},
		{"directories exchanged", func(t *testing.T, f *fixture) {
			must(t, unix.Renameat2(unix.AT_FDCWD, f.path("dir"), unix.AT_FDCWD, f.path("shared"), unix.RENAME_EXCHANGE))
		}},
		{"moved up", func(t *testing.T, f *fixture) { must(t, os.Rename(f.path("dir/sub"), f.path("up"))) }},
		{"mode and owner", func(t *testing.T, f *fixture) {
			must(t, os.Chmod(f.path("plain"), 0o600))
			must(t, os.Chown(f.path("dir"), 9, 9))
			must(t, os.Lchown(f.path("absolute"), 9, 9))
			must(t, os.Chmod(f.path("fifo"), 0o622))
			must(t, os.Chmod(f.src, 0o700))
		}},
		{"attributes", func(t *testing.T, f *fixture) {
			must(t, unix.Removexattr(f.path("plain"), "user.colour"))
			must(t, unix.Setxattr(f.path("plain"), "user.empty", []byte("no more"), 0))
			must(t, unix.Setxattr(f.path("linked"), "user.new", []byte("x"), 0))
			f.setfacl("-b", "owned")
			f.setfacl("-k", "shared")
			f.setfacl("-m", "u:99:r", "dir")
		}},
		{"new with and without ACL", func(t *testing.T, f *fixture) {
			f.write("shared/fresh", "x")
			f.write("shared/cleared", "x")
			f.setfacl("-b", "shared/cleared")
			f.write("shared/deep/er", "x")
		}},
		{"one more hard link", func(t *testing.T, f *fixture) {
			must(t, os.Link(f.path("plain"), f.path("dir/plain-too")))
			must(t, os.Link(f.path("linked"), f.path("a-fourth")))
		}},
		{"hard link parted", func(t *testing.T, f *fixture) {
			must(t, os.Remove(f.path("dir/linked-too")))
			f.write("dir/linked-too", "on its own")
		}},
		{"linked file written", func(t *testing.T, f *fixture) { f.write("dir/linked-too", "ONE INODE") }},
		{"links joined", func(t *testing.T, f *fixture) {
			must(t, os.Remove(f.path("plain")))
			must(t, os.Link(f.path("linked"), f.path("plain")))
		}},
		{"name of a link swapped", func(t *testing.T, f *fixture) {
			must(t, unix.Renameat2(unix.AT_FDCWD, f.path("linked"), unix.AT_FDCWD, f.path("plain"), unix.RENAME_EXCHANGE))
		}},
		{"all gone", func(t *testing.T, f *fixture) {
			entries, err := os.ReadDir(f.src)
			must(t, err)
			for _, e := range entries {
				must(t, os.RemoveAll(f.path(e.Name())))
			}
		}},
		{"times only", func(t *testing.T, f *fixture) {
			for _, n := range []string{"plain", "dir", "fifo", "."} {
				must(t, os.Chtimes(f.path(n), old, old))
			}
		}},
		{"sparse file moved on", func(t *testing.T, f *fixture) {
			must(t, os.Remove(f.path("hole")))
			must(t, os.Rename(f.path("sparse"), f.path("hole")))
		}},
	}
	for place, base := range places(t) {
		for i, tc := range cases {
			t.Run(place+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(base, fmt.Sprint(i))
				must(t, os.Mkdir(dir, 0o700))
				f := newFixture(t, dir)
				f.populate()
				f.age()
				f.first()
				tc.change(t, f)
				f.differences()
				f.compare()
				f.differences()
				f.compare()
			})
		}
	}
}

// believed is a fixture on a file system whose times are believed.
func believed(t testing.TB) *fixture {
	f := newFixture(t, t.TempDir())
	fd, err := openRoot(f.src)
	must(t, err)
	defer unix.Close(fd)
	if !trustIn(fd).times {
		t.Skip("the temporary directory is on a file system whose times say nothing")
	}
	return f
}

func TestUnchangedFilesAreNotTouched(t *testing.T) {
	t.Parallel()
	f := believed(t)
	f.populate()
	f.age()
	f.first()
	if s := f.differences(); s.Copied != 0 || s.Removed != 0 || s.Bytes != 0 || s.Unchanged < 15 {
		t.Errorf("nothing changed, but %+v", s)
	}
	f.write("plain", "other")
	if s := f.differences(); s.Copied != 1 || s.Bytes != 5 {
		t.Errorf("one file changed, but %+v", s)
	}
	f.compare()
}

// TestUnsettledFilesAreCopiedAgain: the change time of a file that was written
// in the tick of First proves nothing.
func TestUnsettledFilesAreCopiedAgain(t *testing.T) {
	t.Parallel()
	f := believed(t)
	f.c.settle = time.Hour
	f.write("a", "x")
	f.first()
	for range 2 {
		if s := f.differences(); s.Copied != 1 {
			t.Errorf("unexpected %+v", s)
		}
	}
}

// TestBulkWrittenLatelyIsSettledByFirst: the second pass of First is there so
// that Differences does not have to copy it all again.
func TestBulkWrittenLatelyIsSettledByFirst(t *testing.T) {
	t.Parallel()
	f := believed(t)
	f.c.settle = 200 * time.Millisecond
	f.write("bulk", strings.Repeat("x", tolerated))
	f.first()
	if s := f.differences(); s.Copied != 0 {
		t.Errorf("unexpected %+v", s)
	}
}

// TestStoresThroughAMapping: the page is dirty when First comes, so without
// the write-back the second store would leave no trace in any time.
func TestStoresThroughAMapping(t *testing.T) {
	t.Parallel()
	for place, base := range places(t) {
		t.Run(place, func(t *testing.T) {
			f := newFixture(t, base)
			f.write("mapped", strings.Repeat("a", 64<<10))
			file, err := os.OpenFile(f.path("mapped"), os.O_RDWR, 0)
			must(t, err)
			mem, err := unix.Mmap(int(file.Fd()), 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(t, err)
			file.Close()
			defer unix.Munmap(mem)
			mem[10], mem[5000] = 'b', 'b'
			f.age()
			f.first()
			mem[10] = 'c'
			f.differences()
			f.compare()
			mem[5000] = 'c'
			f.differences()
			f.compare()
		})
	}
}

// TestAnyHistory makes random changes between passes; every copy must equal
// its source.
func TestAnyHistory(t *testing.T) {
	t.Parallel()
	for place, base := range places(t) {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("%s/%d", place, seed), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(base, fmt.Sprint(seed))
				must(t, os.Mkdir(dir, 0o700))
				f := newFixture(t, dir)
				r := rand.New(rand.NewPCG(seed, 42))
				for range 60 {
					f.mutate(r)
				}
				f.age()
				f.first()
				f.compare()
				for range 6 {
					for range 1 + r.IntN(15) {
						f.mutate(r)
					}
					f.differences()
					f.compare()
				}
				must(t, f.c.Complete(context.Background()))
				f.compare()
			})
		}
	}
}

// mutate does something to a random name; that it may fail is part of it.
func (f *fixture) mutate(r *rand.Rand) {
	name := func() string {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = string(rune('a' + r.IntN(5)))
		}
		return f.path(filepath.Join(parts...))
	}
	a, b := name(), name()
	switch r.IntN(14) {
	case 0, 1, 2:
		// Not into a FIFO, which would wait for a reader.
		file, err := os.OpenFile(a, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			file.WriteString(strings.Repeat("x", r.IntN(20_000)))
			file.Close()
		}
	case 3, 4:
		os.Mkdir(a, 0o755)
	case 5:
		os.Rename(a, b)
	case 6:
		os.Link(a, b)
	case 7:
		os.Symlink(b, a)
	case 8:
		Remove(context.Background(), a)
	case 9:
		unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	case 10:
		os.Truncate(a, int64(r.IntN(100_000)))
	case 11:
		os.Chtimes(a, time.Unix(r.Int64N(1e9), 0), time.Unix(r.Int64N(1e9), 0))
	case 12:
		unix.Lsetxattr(a, "trusted.x", []byte(b), 0)
	case 13:
		unix.Mkfifo(a, 0o644)
	}
}
