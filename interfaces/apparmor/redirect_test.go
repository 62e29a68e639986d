// SPDX-License-Identifier: Apache-2.0

package apparmor_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// follows checks into which revision's profile a process of web.NAME, revision 1,
// changes, "" for none; and that it is sealed.
func (f *fixture) follows(t *testing.T, name, rev string) {
	t.Helper()
	text := f.kernel.profiles["snap.web."+name+".1"]
	if !strings.Contains(text, "deny /var/snap/web/1/{,**} wl,") {
		t.Errorf("%s is not sealed", name)
	}
	var got []string
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, " px ") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := "/snap/web/" + rev + "/** px -> snap.web." + name + "." + rev + ","
	if rev == "" && got != nil || rev != "" && !slices.Equal(got, []string{want}) {
		t.Errorf("%s may %q, want %q", name, got, want)
	}
}

// TestRedirect: processes that stay at revision 1 follow 3 instead of 2 once that is
// current, and 2 again if it is not after all; compiled with what 3 needs.
func TestRedirect(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a", "b", "c"))
	setup := func(of int, left2 ...string) {
		t.Helper()
		if of == 2 {
			_, err := s.Setup(t.Context(), set(2, "a", "b", "c"), left(1, "a"))
			must(t, err)
			return
		}
		_, err := s.Setup(t.Context(), set(3, "a", "b", "c"), left(2, left2...))
		must(t, err)
	}
	setup(2)
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
	f.follows(t, "a", "2")
	f.kernel.carriers["snap.web.a.1"] = []int{7}
	kept := f.files(t, f.dirs.ProfileCache())
	runs, loads := f.compiler.runs, f.kernel.loads

	setup(3, "a")
	if want := []string{"snap.web.a.1", "snap.web.a.2", "snap.web.a.3", "snap.web.b.2", "snap.web.b.3", "snap.web.c.2", "snap.web.c.3"}; f.compiler.runs != runs+1 || !slices.Equal(f.compiler.last, want) {
		t.Errorf("run %d compiled %v", f.compiler.runs-runs, f.compiler.last)
	}
	f.follows(t, "a", "2")
	for range 2 {
		must(t, s.Redirect(t.Context(), "web", 3))
		f.follows(t, "a", "3")
		f.follows(t, "b", "")
	}
	must(t, s.Seal(t.Context(), "web", 3, left(2, "a")))
	must(t, s.Redirect(t.Context(), "web", 3))
	if f.compiler.runs != runs+1 || f.kernel.loads != loads+3 {
		t.Errorf("%d compiled, %d loaded", f.compiler.runs-runs, f.kernel.loads-loads)
	}
	if sealed, err := s.Sealed("web", 1); err != nil || !sealed {
		t.Error("is not known as sealed", err)
	}

	// back, as after a failure
	must(t, s.Unseal(t.Context(), "web", 2))
	must(t, s.Redirect(t.Context(), "web", 2))
	must(t, s.Unload(t.Context(), "web", 3))
	f.follows(t, "a", "2")
	if got := f.files(t, f.dirs.ProfileCache()); f.compiler.runs != runs+1 || !slices.Equal(got, kept) {
		t.Errorf("run %d; kept %v, before %v", f.compiler.runs-runs, got, kept)
	}

	// one that is told for the first time
	setup(3)
	if _, err := s.PrepareSeal(t.Context(), "web", 3, left(1, "b")); err != nil {
		t.Fatal(err)
	}
	runs = f.compiler.runs
	f.kernel.fail = errors.New("no")
	if err := s.Redirect(t.Context(), "web", 3, left(1, "b")); err == nil || !strings.Contains(err.Error(), `cannot have older processes of snap "web" follow revision 3`) {
		t.Errorf("got %v", err)
	}
	f.follows(t, "a", "2")
	f.compiler.runs = runs
	must(t, s.Redirect(t.Context(), "web", 3, left(1, "b")))
	f.follows(t, "a", "3")
	f.follows(t, "b", "3")
	f.follows(t, "c", "")
}

// TestRedirectOfNobody leaves revisions alone that no process carries, that were
// told nothing, and those without a seal.
func TestRedirectOfNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a"), set(2, "a"), set(3, "a"), set(4, "a"))
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
	must(t, s.Seal(t.Context(), "web", 3, left(2)))
	f.kernel.carriers["snap.web.a.2"] = []int{7}
	f.kernel.carriers["snap.web.a.3"] = []int{8}
	runs, loads := f.compiler.runs, f.kernel.loads
	_, err := s.PrepareSeal(t.Context(), "web", 4)
	must(t, err)
	must(t, s.Redirect(t.Context(), "web", 4))
	if f.compiler.runs != runs || f.kernel.loads != loads {
		t.Errorf("%d compiled, %d loaded", f.compiler.runs-runs, f.kernel.loads-loads)
	}
	f.follows(t, "a", "2")
	must(t, os.RemoveAll(f.dirs.Run())) // after a boot there is no seal
	f.kernel.carriers["snap.web.a.1"] = []int{9}
	must(t, f.store().Redirect(t.Context(), "web", 4))
	if f.kernel.loads != loads {
		t.Errorf("loaded %v", f.kernel.profiles)
	}
}
