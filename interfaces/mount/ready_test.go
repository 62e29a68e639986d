// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"endured/interfaces/mount"
)

// stand is a snap's tree and a place for what is shown of it.
type stand struct {
	t          *testing.T
	top, ready string
	closed     string
}

func newStand(t *testing.T) *stand {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir := t.TempDir()
	s := &stand{t: t, top: filepath.Join(dir, "snap"), ready: filepath.Join(dir, "ready"), closed: filepath.Join(dir, "run/seal/demo_1")}
	for _, d := range []string{s.top + "/in", s.top + "/deep/in", filepath.Dir(s.closed)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := mount.MakeReady(s.ready, "u", nil); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *stand) part(n, rel string) mount.Ready {
	return mount.Ready{Part: mount.Part{
		Source: filepath.Join(s.top, rel), Within: s.top, Target: filepath.Join(s.ready, "u", n), Optional: true, Closed: s.closed,
	}}
}

func (s *stand) do(fs ...error) {
	s.t.Helper()
	if err := errors.Join(fs...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) write(n string) error {
	return os.WriteFile(filepath.Join(s.ready, "u", n, "f"), nil, 0o644)
}

func (s *stand) id(n string) uint64 {
	s.t.Helper()
	var st unix.Statx_t
	s.do(unix.Statx(unix.AT_FDCWD, filepath.Join(s.ready, "u", n), 0, unix.STATX_MNT_ID, &st))
	return st.Mnt_id
}

func TestReady(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	readOnly := s.part("1", "deep/in")
	readOnly.ReadOnly = true
	linked := s.part("2", "way/in")
	linked.Linked = true
	s.do(os.Symlink("deep", s.top+"/way"))
	all := []mount.Ready{s.part("0", "way/in"), readOnly, linked, s.part("3", "nothing")}
	s.do(mount.MakeReady(s.ready, "u", all), s.write("0"), s.write("2"))
	if _, err := os.Stat(s.top + "/deep/in/f"); err != nil {
		t.Error("a link inside is not followed: ", err)
	}
	if err := s.write("1"); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to what is read-only: %v", err)
	}
	if to, err := os.Readlink(s.ready + "/u/2"); to != s.top+"/deep/in" {
		t.Errorf("linked to %q, %v", to, err)
	}
	if _, err := os.Lstat(s.ready + "/u/3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something stands for what is not there: %v", err)
	}
	// what is right is left alone, what another directory has replaced is not
	was := s.id("0")
	s.do(mount.MakeReady(s.ready, "u", all))
	if s.id("0") != was {
		t.Error("it is mounted anew")
	}
	s.do(os.Rename(s.top+"/deep", s.top+"/old"), os.MkdirAll(s.top+"/deep/in", 0o755), mount.MakeReady(s.ready, "u", all))
	if _, err := os.Stat(s.ready + "/u/0/f"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory that was replaced is still shown: %v", err)
	}
	s.do(mount.MakeReady(s.ready, "u", all[:1]))
	if _, err := os.Lstat(s.ready + "/u/1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not wanted any more stands there: %v", err)
	}
}

// TestReadyLinks: no link leads out of the other snap, be it the directory
// itself or one above it, and what stood there before is gone.
func TestReadyLinks(t *testing.T) {
	t.Parallel()
	for _, linked := range []bool{false, true} {
		for _, link := range []string{"in", "deep"} {
			s := newStand(t)
			p := []mount.Ready{s.part("0", link), s.part("1", link)}
			if link == "deep" {
				p = []mount.Ready{s.part("0", "deep/in"), s.part("1", "in")}
			}
			p[0].Linked = linked
			s.do(mount.MakeReady(s.ready, "u", p), os.RemoveAll(s.top+"/"+link))
			for _, to := range []string{"/etc", "../../..", "/proc/self/root"} {
				os.Remove(s.top + "/" + link)
				s.do(os.Symlink(to, s.top+"/"+link), os.MkdirAll(s.ready, 0o700))
				err := mount.MakeReady(s.ready, "u", p)
				if err == nil || !strings.Contains(err.Error(), "a symbolic link leads out of "+s.top) {
					t.Errorf("%s to %s: %v", link, to, err)
				}
				if _, err := os.Lstat(s.ready + "/u/0"); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s to %s: something stands there: %v", link, to, err)
				}
			}
		}
	}
}

// TestReadyClosed: what is sealed is read-only from then on, mounted before or
// after, until it is unsealed.
func TestReadyClosed(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	place, err := mount.PlaceOf(s.top)
	s.do(err, mount.MakeReady(s.ready, "u", []mount.Ready{s.part("0", "in")}), os.WriteFile(s.closed, nil, 0o600))
	s.do(mount.ReadyReadOnly(s.ready, place, true))
	for _, parts := range [][]mount.Ready{{s.part("0", "in")}, {s.part("0", "in"), s.part("1", "deep/in")}} {
		for n := range parts {
			if err := s.write(filepath.Base(parts[n].Target)); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing to %d of %d: %v", n, len(parts), err)
			}
		}
		s.do(mount.MakeReady(s.ready, "u", []mount.Ready{s.part("0", "in"), s.part("1", "deep/in")}))
	}
	s.do(os.Remove(s.closed), mount.ReadyReadOnly(s.ready, place, false), s.write("0"), s.write("1"))
	// and so it is if nobody said so
	s.do(mount.ReadyReadOnly(s.ready, place, true), mount.MakeReady(s.ready, "u", []mount.Ready{s.part("0", "in")}), s.write("0"))
}
