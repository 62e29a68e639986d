// SPDX-License-Identifier: Apache-2.0

package apparmor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"

	"endured/dirs"
	"endured/interfaces/apparmor"
	"endured/snap"
)

// fakeKernel loads what fakeCompiler made.
type fakeKernel struct {
	off      error
	features string
	profiles map[string]string // label to text
	carriers map[string][]int
	loads    int
	fail     error // of the next load
}

func (k *fakeKernel) Check() error              { return k.off }
func (k *fakeKernel) Features() (string, error) { return k.features, nil }

var head = regexp.MustCompile(`(?m)^profile "([^"]+)"`)

func (k *fakeKernel) Replace(compiled []byte) error {
	if err := k.fail; err != nil {
		k.fail = nil
		return err
	}
	k.loads++
	text := string(compiled)
	at := head.FindAllStringSubmatchIndex(text, -1)
	for n, m := range at {
		end := len(text)
		if n+1 < len(at) {
			end = at[n+1][0]
		}
		k.profiles[text[m[2]:m[3]]] = text[m[0]:end]
	}
	return nil
}

func (k *fakeKernel) Remove(label string) error {
	delete(k.profiles, label)
	return nil
}

func (k *fakeKernel) Loaded() ([]string, error) {
	var out []string
	for l := range k.profiles {
		out = append(out, l)
	}
	sort.Strings(out)
	return out, nil
}

func (k *fakeKernel) Carriers() (map[string][]int, error) { return k.carriers, nil }

type fakeCompiler struct {
	off  error
	runs int
	last []string // the labels of the last run, sorted
	// refuse is text that does not compile.
	refuse string
}

func (c *fakeCompiler) Check() error { return c.off }
func (c *fakeCompiler) ID() string   { return "1" }

func (c *fakeCompiler) Compile(_ context.Context, _ string, texts map[string]string) (map[string][]byte, error) {
	c.runs++
	c.last = nil
	var err error
	out := map[string][]byte{}
	for name, text := range texts {
		c.last = append(c.last, head.FindStringSubmatch(text)[1])
		if c.refuse != "" && strings.Contains(text, c.refuse) {
			err = errors.New("conflicting x modifiers")
			continue
		}
		out[name] = []byte(text)
	}
	sort.Strings(c.last)
	return out, err
}

type fixture struct {
	dirs     dirs.Dirs
	kernel   *fakeKernel
	compiler *fakeCompiler
	log      *slog.Logger
}

func newFixture(t *testing.T) *fixture {
	return &fixture{
		dirs:     dirs.New(t.TempDir()),
		kernel:   &fakeKernel{profiles: map[string]string{}, carriers: map[string][]int{}},
		compiler: &fakeCompiler{},
		log:      slog.New(slog.DiscardHandler),
	}
}

func (f *fixture) store() *apparmor.Store {
	return apparmor.NewStore(apparmor.Config{Dirs: f.dirs, Kernel: f.kernel, Compiler: f.compiler, Log: f.log})
}

func (f *fixture) files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func set(rev snap.Revision, apps ...string) *apparmor.Set {
	s := &apparmor.Set{Snap: "web", Revision: rev, Mode: apparmor.Enforce}
	for _, a := range apps {
		s.Profiles = append(s.Profiles, apparmor.Profile{App: a, Service: true})
	}
	return s
}

func left(rev snap.Revision, follow ...string) apparmor.Left {
	return apparmor.Left{Revision: rev, Follow: follow}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, s *apparmor.Store, sets ...*apparmor.Set) {
	t.Helper()
	for _, set := range sets {
		_, err := s.Load(t.Context(), set)
		must(t, err)
	}
}

func TestLoadAndUnload(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a", "b"), set(2, "a"))
	if f.compiler.runs != 2 || f.kernel.loads != 2 {
		t.Errorf("%d compiled, %d loaded: want one of each for a revision", f.compiler.runs, f.kernel.loads)
	}
	want := []string{"snap.web.a.1", "snap.web.a.2", "snap.web.b.1"}
	if got, _ := f.kernel.Loaded(); !slices.Equal(got, want) {
		t.Errorf("loaded %v", got)
	}
	if got := f.files(t, f.dirs.Profiles()); !slices.Equal(got, want) {
		t.Errorf("texts %v", got)
	}
	load(t, s, set(1, "a", "b"))
	if f.compiler.runs != 2 {
		t.Errorf("the same was compiled twice")
	}
	// an app that is gone takes its profile along
	load(t, s, set(1, "b"))
	if got, _ := f.kernel.Loaded(); !slices.Equal(got, want[1:]) {
		t.Errorf("loaded %v", got)
	}
	must(t, s.Unload(t.Context(), "web", 1))
	must(t, s.Unload(t.Context(), "web", 1))
	must(t, s.Unload(t.Context(), "web", 2))
	got, _ := f.kernel.Loaded()
	for _, dir := range []string{f.dirs.Profiles(), f.dirs.ProfileSets(), f.dirs.ProfileCache()} {
		got = append(got, f.files(t, dir)...)
	}
	if len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}

// TestUnloadLingering: what could not be unloaded is when nothing carries it any
// more, unless a revision of that number has come again.
func TestUnloadLingering(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	for _, again := range []bool{true, false} {
		load(t, s, set(1, "a"))
		f.kernel.carriers["snap.web.a.1"] = []int{7}
		var used *apparmor.InUseError
		if err := s.Unload(t.Context(), "web", 1); !errors.As(err, &used) {
			t.Fatal(err)
		}
		if again {
			load(t, s, set(1, "a"))
		}
		delete(f.kernel.carriers, "snap.web.a.1")
		must(t, s.UnloadLingering("web", 1))
		must(t, s.UnloadLingering("web", 2))
		if got, _ := f.kernel.Loaded(); (len(got) == 1) != again || len(s.Lingering()) != 0 {
			t.Errorf("again %v: loaded %v, lingering %v", again, got, s.Lingering())
		}
	}
}

func TestUnloadWhileCarried(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a", "b"))
	f.kernel.carriers["snap.web.b.1"] = []int{12, 7}
	var used *apparmor.InUseError
	if err := s.Unload(t.Context(), "web", 1); !errors.As(err, &used) || used.Label != "snap.web.b.1" || !slices.Equal(used.PIDs, []int{7, 12}) {
		t.Fatalf("got %v", err)
	}
	if got, _ := f.kernel.Loaded(); len(got) != 2 {
		t.Errorf("only %v stayed", got)
	}
	must(t, s.Clean(func(string, snap.Revision) bool { return false }))
	if got, _ := f.kernel.Loaded(); len(got) != 2 {
		t.Errorf("only %v stayed", got)
	}
	select {
	case <-s.Lingers():
	default:
		t.Error("nobody is told")
	}
	if l := s.Lingering(); len(l) != 1 || l[0].Key != (apparmor.Key{Snap: "web", Revision: 1}) || !slices.Equal(l[0].PIDs, []int{7, 12}) {
		t.Errorf("lingering: %v", l)
	}
	if err := s.UnloadLingering("web", 1); !errors.As(err, &used) {
		t.Errorf("got %v", err)
	}
	delete(f.kernel.carriers, "snap.web.b.1")
	must(t, s.Clean(func(string, snap.Revision) bool { return false }))
	if got, _ := f.kernel.Loaded(); len(got) != 0 {
		t.Errorf("%v stayed", got)
	}
}

func TestFailedLoadLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	f.kernel.fail = errors.New("no")
	if _, err := s.Load(t.Context(), set(1, "a")); err == nil || !strings.Contains(err.Error(), `cannot load AppArmor profiles of snap "web" (1)`) {
		t.Fatalf("got %v", err)
	}
	f.compiler.refuse = "snap.web.b.1"
	if _, err := s.Load(t.Context(), set(1, "b")); err == nil {
		t.Fatal("loaded what does not compile")
	}
	bad := set(1, "a")
	bad.Profiles[0].Rules = []string{"}"}
	if _, err := s.Load(t.Context(), bad); err == nil {
		t.Fatal("loaded a rule that is none")
	}
	left, _ := f.kernel.Loaded()
	left = append(left, append(f.files(t, f.dirs.Profiles()), f.files(t, f.dirs.ProfileSets())...)...)
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestLoadThatCannotBeStored takes back what is in the kernel already.
func TestLoadThatCannotBeStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a"))
	before := f.kernel.profiles["snap.web.a.1"]
	must(t, os.RemoveAll(f.dirs.Profiles()))
	must(t, os.WriteFile(f.dirs.Profiles(), nil, 0o644)) // in the way
	changed := set(1, "a")
	changed.Profiles[0].Rules = []string{"network,"}
	if _, err := s.Load(t.Context(), changed); err == nil {
		t.Fatal("loaded without a place for the text")
	}
	must(t, os.Remove(f.dirs.Profiles()))
	must(t, s.Restore(t.Context()))
	if f.kernel.profiles["snap.web.a.1"] != before {
		t.Errorf("now %s", f.kernel.profiles["snap.web.a.1"])
	}
}

func TestSeal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a", "b"), set(2, "a"))
	open, next := f.kernel.profiles["snap.web.a.1"], f.kernel.profiles["snap.web.a.2"]
	if _, err := s.PrepareSeal(t.Context(), "web", 2, left(1, "a")); err != nil {
		t.Fatal(err)
	}
	if f.kernel.profiles["snap.web.a.1"] != open {
		t.Error("preparing sealed already")
	}
	runs := f.compiler.runs
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
	must(t, s.Unseal(t.Context(), "web", 1))
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
	if f.compiler.runs != runs {
		t.Errorf("the seal was compiled %d times more", f.compiler.runs-runs)
	}
	a, b := f.kernel.profiles["snap.web.a.1"], f.kernel.profiles["snap.web.b.1"]
	for _, want := range []string{"deny /var/snap/web/1/{,**} wl,", "/snap/web/2/** px -> snap.web.a.2,"} {
		if !strings.Contains(a, want) {
			t.Errorf("sealed profile lacks %s", want)
		}
	}
	if !strings.Contains(b, "deny /var/snap/web/1/{,**} wl,") || strings.Contains(b, " px ") {
		t.Errorf("an app without successor became:\n%s", b)
	}
	if f.kernel.profiles["snap.web.a.2"] != next {
		t.Error("the successor's profile changed")
	}
	if sealed, err := s.Sealed("web", 1); err != nil || !sealed {
		t.Error("is not known as sealed", err)
	}
	// what interfaces give may change; the seal stays
	have, err := s.Set("web", 1)
	must(t, err)
	have.Profiles[0].Rules = []string{"/** rw,"}
	load(t, s, have)
	if got := f.kernel.profiles["snap.web.a.1"]; !strings.Contains(got, "/** rw,") || !strings.Contains(got, "deny /var/snap/web/1/{,**} wl,") {
		t.Errorf("after a connection:\n%s", got)
	}
	must(t, s.Unseal(t.Context(), "web", 1))
	if strings.Contains(f.kernel.profiles["snap.web.a.1"], "deny /var/snap") {
		t.Error("still sealed")
	}
	if sealed, err := s.Sealed("web", 1); err != nil || sealed {
		t.Error("still known as sealed", err)
	}
	// neither what has no profiles nor what is classic is an error
	must(t, s.Seal(t.Context(), "web", 2, left(9, "a")))
	must(t, s.Unseal(t.Context(), "web", 9))
	classic := set(3, "a")
	classic.Mode = apparmor.Unconfined
	load(t, s, classic)
	before := f.kernel.loads
	must(t, s.Seal(t.Context(), "web", 2, left(3, "a")))
	must(t, s.Unseal(t.Context(), "web", 3))
	if f.kernel.loads != before {
		t.Error("a classic snap was sealed")
	}
}

// TestSealWithoutExec seals what an interface lets execute everything: only
// the way into the successor's profile is missing, and only for that program.
func TestSealWithoutExec(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a", "b"), set(2, "a", "b"))
	f.compiler.refuse = " px -> snap.web.a.2"
	_, err := s.PrepareSeal(t.Context(), "web", 2, left(1, "a", "b"))
	must(t, err)
	runs := f.compiler.runs
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a", "b")))
	if f.compiler.runs != runs {
		t.Error("compiled again")
	}
	f.follows(t, "a", "")
	f.follows(t, "b", "2")
	// what is wrong for another reason is no seal
	f.compiler.refuse = "deny /var/snap/web/2"
	if err := s.Seal(t.Context(), "web", 0, left(2)); err == nil || !strings.Contains(err.Error(), `cannot seal the data of snap "web" (2)`) {
		t.Errorf("got %v", err)
	}
}

func TestRestoreAfterBoot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a"), set(2, "a"))
	must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
	want := f.kernel.profiles["snap.web.a.2"]
	runs := f.compiler.runs
	f.kernel.profiles = map[string]string{}
	must(t, os.RemoveAll(f.dirs.Run()))
	must(t, f.store().Restore(t.Context()))
	if f.compiler.runs != runs {
		t.Error("compiled at boot")
	}
	if got, _ := f.kernel.Loaded(); len(got) != 2 || f.kernel.profiles["snap.web.a.2"] != want {
		t.Errorf("after the boot: %v", got)
	}
	if strings.Contains(f.kernel.profiles["snap.web.a.1"], "deny /var/snap") {
		t.Error("the seal outlived the boot")
	}
	loads := f.kernel.loads
	must(t, f.store().Restore(t.Context()))
	if f.kernel.loads != loads {
		t.Error("loaded what was there")
	}
}

// TestRestoreWithBrokenCache compiles what a loss of power left cut short, and
// a set that cannot be read keeps no other from being loaded.
func TestRestoreWithBrokenCache(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	load(t, f.store(), set(1, "a"))
	for _, name := range f.files(t, f.dirs.ProfileCache()) {
		must(t, os.Truncate(filepath.Join(f.dirs.ProfileCache(), name), 100))
	}
	must(t, os.WriteFile(filepath.Join(f.dirs.ProfileSets(), "torn_1.json"), []byte(`{"snap":`), 0o644))
	f.kernel.profiles = map[string]string{}
	err := f.store().Restore(t.Context())
	if err == nil || !strings.Contains(err.Error(), "torn_1.json") {
		t.Errorf("got %v", err)
	}
	if f.kernel.profiles["snap.web.a.1"] == "" || f.compiler.runs != 2 {
		t.Errorf("%d compiled", f.compiler.runs)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.store()
	load(t, s, set(1, "a"), set(2, "a"))
	f.kernel.profiles["snap.web.a"] = "of an older daemon"
	f.kernel.profiles["snap.old.a"] = "of an older daemon, with a process"
	f.kernel.profiles["/usr/bin/man"] = "the host's"
	f.kernel.carriers["snap.old.a"] = []int{9}
	must(t, os.WriteFile(filepath.Join(f.dirs.Profiles(), "snap.web.a"), nil, 0o644))
	must(t, s.Clean(func(name string, rev snap.Revision) bool { return rev == 2 }))
	if got, _ := f.kernel.Loaded(); !slices.Equal(got, []string{"/usr/bin/man", "snap.old.a", "snap.web.a.2"}) {
		t.Errorf("loaded %v", got)
	}
	if got := f.files(t, f.dirs.Profiles()); !slices.Equal(got, []string{"snap.web.a.2"}) {
		t.Errorf("texts %v", got)
	}
}

func TestHostWithoutAppArmor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		kernel, parser error
		labels         bool
	}{
		{"kernel off", apparmor.ErrOff, nil, true},
		{"no parser", nil, apparmor.ErrNoParser, false},
		{"neither", apparmor.ErrOff, apparmor.ErrNoParser, false},
		{"container", fmt.Errorf("cannot load AppArmor profiles here: %w", os.ErrPermission), nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.kernel.off, f.compiler.off = c.kernel, c.parser
			s := f.store()
			if s.Enforced() || s.WhyNot() == nil || s.Labels() != c.labels {
				t.Errorf("enforced %v, %v, labels %v", s.Enforced(), s.WhyNot(), s.Labels())
			}
			load(t, s, set(1, "a"), set(2, "a"))
			must(t, s.Seal(t.Context(), "web", 2, left(1, "a")))
			must(t, s.Unseal(t.Context(), "web", 1))
			must(t, s.Restore(t.Context()))
			must(t, s.Unload(t.Context(), "web", 1))
			must(t, s.Clean(func(string, snap.Revision) bool { return true }))
			if f.compiler.runs+f.kernel.loads > 0 {
				t.Error("something was compiled or loaded")
			}
			if got := f.files(t, f.dirs.Profiles()); !slices.Equal(got, []string{"snap.web.a.2"}) {
				t.Errorf("texts %v", got)
			}
		})
	}
}

// TestHostKernel reads the files that a kernel shows, laid out by hand.
func TestHostKernel(t *testing.T) {
	t.Parallel()
	d := dirs.New(t.TempDir())
	k := apparmor.HostKernel(d)
	if err := k.Check(); !errors.Is(err, apparmor.ErrOff) {
		t.Errorf("got %v", err)
	}
	put := func(path, text string) {
		must(t, os.MkdirAll(filepath.Dir(d.Under(path)), 0o755))
		must(t, os.WriteFile(d.Under(path), []byte(text), 0o644))
	}
	put("/sys/module/apparmor/parameters/enabled", "N\n")
	if err := k.Check(); !errors.Is(err, apparmor.ErrOff) {
		t.Errorf("got %v", err)
	}
	put("/sys/module/apparmor/parameters/enabled", "Y\n")
	if err := k.Check(); err == nil || errors.Is(err, apparmor.ErrOff) {
		t.Errorf("got %v", err)
	}
	put("/sys/kernel/security/apparmor/.replace", "")
	put("/sys/kernel/security/apparmor/features/file/mask", "create read")
	put("/sys/kernel/security/apparmor/profiles", "snap.web.a.1 (enforce)\n/usr/bin/man (complain)\nman_groff (enforce)\n")
	put("/proc/12/attr/current", "snap.web.a.1 (enforce)\n")
	put("/proc/13/attr/apparmor/current", "snap.web.a.1//&docker (mixed)\n")
	put("/proc/13/attr/current", "of another module")
	put("/proc/14/attr/current", "unconfined\n")
	put("/proc/self/attr/current", "unconfined\n")
	must(t, k.Check())
	one, err := k.Features()
	must(t, err)
	put("/sys/kernel/security/apparmor/features/file/mask", "create read write")
	if two, _ := k.Features(); one == two {
		t.Error("a new feature goes unnoticed")
	}
	loaded, err := k.Loaded()
	must(t, err)
	if !slices.Equal(loaded, []string{"/usr/bin/man", "man_groff", "snap.web.a.1"}) {
		t.Errorf("loaded %v", loaded)
	}
	carriers, err := k.Carriers()
	must(t, err)
	if fmt.Sprint(carriers) != "map[docker:[13] snap.web.a.1:[12 13] unconfined:[14]]" {
		t.Errorf("carriers %v", carriers)
	}
	must(t, k.Replace([]byte("blob")))
	if got, _ := os.ReadFile(d.Under("/sys/kernel/security/apparmor/.replace")); string(got) != "blob" {
		t.Errorf("wrote %q", got)
	}
}

func TestEnterOnExec(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	put := func(path, text string) {
		must(t, os.MkdirAll(filepath.Dir(f.dirs.Under(path)), 0o755))
		must(t, os.WriteFile(f.dirs.Under(path), []byte(text), 0o644))
	}
	enter := func() (bool, error) {
		defer runtime.UnlockOSThread()
		return apparmor.EnterOnExec(f.dirs, "snap.web.a.1")
	}
	if entered, err := enter(); entered || err != nil {
		t.Errorf("without AppArmor: %v, %v", entered, err)
	}
	put("/sys/module/apparmor/parameters/enabled", "Y\n")
	if _, err := enter(); err == nil || !strings.Contains(err.Error(), `cannot enter AppArmor profile "snap.web.a.1"`) {
		t.Errorf("got %v", err)
	}
	put("/proc/thread-self/attr/apparmor/exec", "")
	if entered, err := enter(); !entered || err != nil {
		t.Errorf("%v, %v", entered, err)
	}
	if got, _ := os.ReadFile(f.dirs.Under("/proc/thread-self/attr/apparmor/exec")); string(got) != "exec snap.web.a.1" {
		t.Errorf("wrote %q", got)
	}
	must(t, f.store().Mark())
	if entered, _ := enter(); !entered {
		t.Error("marked as off")
	}
	f.compiler.off = apparmor.ErrNoParser
	must(t, f.store().Mark())
	if entered, err := enter(); entered || err != nil {
		t.Errorf("where profiles cannot be loaded: %v, %v", entered, err)
	}
}
