// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// flagging returns a tree on which the immutable flag works; only root can say so.
func flagging(t *testing.T) (dir string, tree *Tree) {
	t.Helper()
	dir = t.TempDir()
	tree, err := OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tree.Close()
		if err := Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	if opens, _ := tree.CanFlag(); !opens {
		t.Skip("nothing can be made immutable here")
	}
	return dir, tree
}

func TestSetFlags(t *testing.T) {
	t.Parallel()
	dir, tree := flagging(t)
	path := filepath.Join(dir, "sub", "f")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	st, err := tree.Stat("sub/f")
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	first, err := tree.SetFlags("sub/f", AppendOnly, &st)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tree.SetFlags("sub/f", Frozen, &st)
	if err != nil || s == nil || s.before == 0 {
		t.Fatal(s, err)
	}
	if both := first.Then(s); both.before != first.before || both.after != s.after {
		t.Errorf("both moves: %v, want from %v to %v", both, first, s)
	}
	if _, err := unix.Mmap(int(open.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EACCES) {
		t.Errorf("mapping it anew: %v", err) // to store into it would kill us
	}
	if err := os.WriteFile(path, nil, 0o644); !errors.Is(err, unix.EPERM) {
		t.Errorf("it can be written: %v", err)
	}
	if s, err := tree.SetFlags("sub/f", Frozen, &st); err != nil || s != nil {
		t.Errorf("again: %v %v", s, err)
	}
	if _, err := tree.SetFlags("sub/f", NoFlags, &st); err != nil {
		t.Error(err)
	}
	other := st
	other.Ino++
	if _, err := tree.SetFlags("sub/f", Frozen, &other); !errors.Is(err, unix.ESTALE) {
		t.Errorf("another file: %v", err)
	}
	if err := os.Link(path, filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.SetFlags("sub/f", Frozen, &st); !errors.Is(err, unix.EMLINK) {
		t.Errorf("one with a second name: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Errorf("it was flagged all the same: %v", err)
	}
	if err := os.Symlink("sub", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.SetFlags("link/f", Frozen, &st); !errors.Is(err, unix.ELOOP) {
		t.Errorf("through a link: %v", err)
	}
}

// TestRestamped: what got a flag since the first pass, and was not written to,
// is not copied again; what was written to in between is.
func TestRestamped(t *testing.T) {
	t.Parallel()
	f := believed(t)
	f.write("same", "x")
	f.write("written", "x")
	f.age()
	f.first()
	tree, err := OpenTree(f.c.src)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if opens, _ := tree.CanFlag(); !opens {
		t.Skip("nothing can be made immutable here")
	}
	f.write("written", "y")
	var stamps []Stamp
	for _, name := range []string{"same", "written"} {
		st, err := tree.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := tree.SetFlags(name, Frozen, &st)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.SetFlags(name, NoFlags, &st)
		stamps = append(stamps, *s)
	}
	f.c.Restamped(stamps)
	stats, err := f.c.Differences(context.Background())
	if err != nil || stats.Copied != 1 {
		t.Errorf("copied %d files, want 1 (%v)", stats.Copied, err)
	}
}
