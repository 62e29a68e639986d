// SPDX-License-Identifier: Apache-2.0

package apparmor_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"endured/dirs"
	"endured/interfaces/apparmor"
	"endured/snap"
)

// cache lists what is kept compiled, by label, sorted.
func (f *fixture) cache(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, name := range f.files(t, f.dirs.ProfileCache()) {
		label, _, _ := strings.Cut(name, "_")
		out = append(out, label)
	}
	return out
}

// with is a set in which one app has a rule more.
func with(rev snap.Revision, rule string, apps ...string) *apparmor.Set {
	s := set(rev, apps...)
	s.Profiles[0].Rules = []string{rule}
	return s
}

// TestCompilesWhatChanged: a plug of one app compiles that app's profile, in each
// revision, in one go; and what was compiled before goes.
func TestCompilesWhatChanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a", "b", "c"), set(2, "a", "b", "c"))
	_, err := s.Load(t.Context(), with(1, "network,", "a", "b", "c"), with(2, "network,", "a", "b", "c"))
	must(t, err)
	if f.compiler.runs != 3 || !slices.Equal(f.compiler.last, []string{"snap.web.a.1", "snap.web.a.2"}) {
		t.Errorf("run %d compiled %v", f.compiler.runs, f.compiler.last)
	}
	if f.kernel.loads != 3 || !strings.Contains(f.kernel.profiles["snap.web.a.1"], "network,") || !strings.Contains(f.kernel.profiles["snap.web.a.2"], "network,") {
		t.Errorf("after load %d: %v", f.kernel.loads, f.kernel.profiles)
	}
	want := []string{"snap.web.a.1", "snap.web.a.2", "snap.web.b.1", "snap.web.b.2", "snap.web.c.1", "snap.web.c.2"}
	if got := f.cache(t); !slices.Equal(got, want) {
		t.Errorf("kept: %v", got)
	}
}

// TestLoadAllOrNone: if one revision's cannot be loaded, no other's are.
func TestLoadAllOrNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a"), set(2, "a"))
	before, kept := f.kernel.profiles["snap.web.a.1"], f.files(t, f.dirs.ProfileCache())
	fails := func(why string) {
		t.Helper()
		if _, err := s.Load(t.Context(), with(1, "network,", "a"), with(2, "deny /x r,", "a")); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("got %v, want %s", err, why)
		}
		if f.kernel.profiles["snap.web.a.1"] != before {
			t.Errorf("now %s", f.kernel.profiles["snap.web.a.1"])
		}
	}
	f.compiler.refuse = "deny /x"
	fails("conflicting x modifiers")
	f.compiler.refuse, f.kernel.fail = "", errors.New("no")
	fails(`cannot load AppArmor profiles of snap "web" (1, 2): no`)
	load(t, s, set(1, "a"), set(2, "a"))
	if got := f.files(t, f.dirs.ProfileCache()); !slices.Equal(got, kept) {
		t.Errorf("kept: %v", got)
	}
}

// TestSetupCompilesOnce: the new revision's profiles and the seals of those that are
// left, in one go; and nothing is loaded if one of them is wrong.
func TestSetupCompilesOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a", "b"))
	f.compiler.refuse = "deny /var/snap/web/1"
	if _, err := s.Setup(t.Context(), set(2, "a", "b"), left(1, "a")); err == nil {
		t.Error("set up what cannot be sealed")
	}
	if got, _ := f.kernel.Loaded(); len(got) != 2 {
		t.Errorf("loaded %v", got)
	}
	f.compiler.refuse = ""
	must(t, os.RemoveAll(f.dirs.ProfileCache()))
	load(t, s, set(1, "a", "b"))
	runs := f.compiler.runs
	cost, err := s.Setup(t.Context(), set(2, "a", "b"), left(1, "a"))
	must(t, err)
	if f.compiler.runs != runs+1 || len(f.compiler.last) != 4 || cost.Compile == 0 {
		t.Errorf("run %d compiled %v in %s", f.compiler.runs-runs, f.compiler.last, cost.Compile)
	}
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
	if f.compiler.runs != runs+1 || !strings.Contains(f.kernel.profiles["snap.web.a.1"], "/snap/web/2/** px -> snap.web.a.2,") {
		t.Errorf("the seal was compiled anew, or is none: %s", f.kernel.profiles["snap.web.a.1"])
	}
	// with one plug more in the sealed revision, the boot has what it needs
	have, err := s.Set("web", 1)
	must(t, err)
	have.Profiles[1].Rules = []string{"network,"}
	load(t, s, have)
	runs = f.compiler.runs
	f.kernel.profiles = map[string]string{}
	must(t, os.RemoveAll(f.dirs.Run()))
	s = f.store()
	must(t, s.Restore(t.Context()))
	if f.compiler.runs != runs {
		t.Error("compiled at boot", f.compiler.last)
	}
	// and what only the seal needed goes
	must(t, s.Prune(func(name string) bool { return name == "web" }))
	if got := f.cache(t); len(got) != 6 {
		t.Errorf("kept while web is busy: %v", got)
	}
	must(t, os.WriteFile(filepath.Join(f.dirs.ProfileCache(), "web_1_abc"), nil, 0o644)) // an older daemon's
	must(t, s.Prune(func(string) bool { return false }))
	if got := f.cache(t); !slices.Equal(got, []string{"snap.web.a.1", "snap.web.a.2", "snap.web.b.1", "snap.web.b.2"}) {
		t.Errorf("kept: %v", got)
	}
}

// TestBrokenCache compiles only what a loss of power or a full disk cut short.
func TestBrokenCache(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"cut":   func(path string) error { return os.Truncate(path, 100) },
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"sum":   func(path string) error { return os.Truncate(path, 32) },
		"zeros": func(path string) error {
			fi, err := os.Stat(path)
			return errors.Join(err, os.Truncate(path, 40), os.Truncate(path, fi.Size()))
		},
		"gone": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			load(t, f.store(), set(1, "a", "b"), set(2, "a", "b"))
			want := f.kernel.profiles
			files := f.files(t, f.dirs.ProfileCache())
			must(t, harm(filepath.Join(f.dirs.ProfileCache(), files[0])))
			must(t, harm(filepath.Join(f.dirs.ProfileCache(), files[3])))
			f.kernel.profiles = map[string]string{}
			must(t, f.store().Restore(t.Context()))
			if f.compiler.runs != 3 || !slices.Equal(f.compiler.last, []string{"snap.web.a.1", "snap.web.b.2"}) {
				t.Errorf("run %d compiled %v", f.compiler.runs, f.compiler.last)
			}
			for label, text := range want {
				if f.kernel.profiles[label] != text {
					t.Errorf("%s is %q", label, f.kernel.profiles[label])
				}
			}
			if got := f.files(t, f.dirs.ProfileCache()); !slices.Equal(got, files) {
				t.Errorf("kept: %v", got)
			}
		})
	}
}

// TestCacheThatCannotBeWritten loads what it compiles all the same.
func TestCacheThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	must(t, os.MkdirAll(filepath.Dir(f.dirs.ProfileCache()), 0o755))
	must(t, os.WriteFile(f.dirs.ProfileCache(), nil, 0o644)) // in the way
	s := f.store()
	load(t, s, set(1, "a"), set(2, "a"))
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
	if !strings.Contains(f.kernel.profiles["snap.web.a.1"], "deny /var/snap/web/1") {
		t.Error("not sealed")
	}
	f.kernel.profiles = map[string]string{}
	must(t, s.Restore(t.Context()))
	if len(f.kernel.profiles) != 2 {
		t.Errorf("restored %v", f.kernel.profiles)
	}
}

// TestOtherKernel compiles everything in one go, and one that does not compile
// keeps no other from it.
func TestOtherKernel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	load(t, f.store(), set(1, "a", "b"), with(2, "deny /x r,", "a"), set(3, "a"))
	f.kernel.profiles = map[string]string{}
	f.kernel.features, f.compiler.refuse = "others", "deny /x r,"
	s := f.store()
	if err := s.Restore(t.Context()); err == nil || !strings.Contains(err.Error(), `cannot load AppArmor profiles of snap "web" (2): snap.web.a.2 was not compiled`) {
		t.Errorf("got %v", err)
	}
	if got, _ := f.kernel.Loaded(); f.compiler.runs != 4 || !slices.Equal(got, []string{"snap.web.a.1", "snap.web.a.3", "snap.web.b.1"}) {
		t.Errorf("after run %d: loaded %v", f.compiler.runs, got)
	}
	must(t, s.Prune(func(string) bool { return false }))
	if got := f.cache(t); !slices.Equal(got, []string{"snap.web.a.1", "snap.web.a.3", "snap.web.b.1"}) {
		t.Errorf("kept: %v", got)
	}
	// on a host that enforces nothing, what the next boot may need stays
	f.kernel.off = apparmor.ErrOff
	must(t, f.store().Prune(func(string) bool { return false }))
	if got := f.cache(t); len(got) != 3 {
		t.Errorf("kept: %v", got)
	}
}

// TestCompiledForReal keeps what the parser of this machine gives for each profile.
func TestCompiledForReal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var loads [][]byte
	k := &blobs{fakeKernel: f.kernel, loads: &loads}
	s := apparmor.NewStore(apparmor.Config{Dirs: f.dirs, Kernel: k, Compiler: apparmor.Offline(dirs.New("/")), Log: f.log})
	load(t, s, set(1, "a", "b"))
	cost, err := s.Load(t.Context(), set(1, "a", "b"))
	must(t, err)
	if cost.Compile != 0 || len(loads) != 2 || string(loads[0]) != string(loads[1]) {
		t.Errorf("compiled again in %s, %d loaded", cost.Compile, len(loads))
	}
	for _, label := range []string{"snap.web.a.1", "snap.web.b.1"} {
		if !strings.Contains(string(loads[0]), label+"\x00") {
			t.Errorf("%s was not loaded", label)
		}
	}
	if got := f.files(t, f.dirs.Run()); slices.Contains(got, "compile") {
		t.Errorf("left: %v", got)
	}
}

// blobs notes what is loaded.
type blobs struct {
	*fakeKernel
	loads *[][]byte
}

func (b *blobs) Replace(compiled []byte) error {
	*b.loads = append(*b.loads, compiled)
	return nil
}
