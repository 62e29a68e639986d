// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"endured/dirs"
	"endured/snap"
	"endured/wrappers"
)

// one returns a snap with one service that edit changes.
func one(edit func(*snap.App)) *snap.Info {
	info := &snap.Info{Name: "one", Version: "1", Revision: 5, Apps: map[string]*snap.App{}}
	info.Apps["svc"] = &snap.App{Snap: info, Name: "svc", Command: "bin/svc", Daemon: "simple", SendSIGKILL: true}
	edit(info.Apps["svc"])
	return info
}

func TestHostile(t *testing.T) {
	t.Parallel()
	env := func(name, value string) func(*snap.App) {
		return func(a *snap.App) { a.Environment = []snap.EnvVar{{Name: name, Value: value}} }
	}
	socket := func(listen string) func(*snap.App) {
		return func(a *snap.App) { a.Sockets = []*snap.Socket{{App: a, Name: "s", ListenStream: listen}} }
	}
	for name, edit := range map[string]func(*snap.App){
		"newline in environment":         env("A", "x\nExecStartPre=/bin/evil"),
		"carriage return in environment": env("A", "x\rB=c"),
		"nul in environment":             env("A", "x\x00"),
		"not UTF-8 in environment":       env("A", "\xff\xfe"),
		"newline in variable name":       env("A\nB", "x"),
		"blank in variable name":         env("A B", "x"),
		"no variable name":               env("", "x"),
		"newline by way of a command": func(a *snap.App) {
			env("A", "x\ny")(a)
			a.Command = "bin/svc $A"
		},
		"command outside the snap":       func(a *snap.App) { a.Command = "../../../bin/sh" },
		"command is the snap itself":     func(a *snap.App) { a.Command = "." },
		"command is a variable":          func(a *snap.App) { a.Command = "$SHELL" },
		"command that env would swallow": func(a *snap.App) { a.Command = "A=b" },
		"no command":                     func(a *snap.App) { a.Command = " " },
		"chain outside the snap":         func(a *snap.App) { a.CommandChain = []string{"../other/bin/x"} },
		"control character in command":   func(a *snap.App) { a.StopCommand = "bin/x\x01y" },
		"unknown daemon":                 func(a *snap.App) { a.Daemon = "simple\nX=y" },
		"newline in bus-name":            func(a *snap.App) { a.Daemon, a.BusName = "dbus", "org.x\nX=y" },
		"no bus-name":                    func(a *snap.App) { a.Daemon = "dbus" },
		"pid-file of unknown variable":   func(a *snap.App) { a.Daemon, a.PIDFile = "forking", "$NOPE/x" },
		"pid-file outside":               func(a *snap.App) { a.Daemon, a.PIDFile = "forking", "$SNAP_DATA/../../../x" },
		"activates-on":                   func(a *snap.App) { a.ActivatesOn = []string{"bus"} },
		"timer":                          func(a *snap.App) { a.Timer = "9:00\nUnit=x" },
		"socket in /etc":                 socket("/etc/x"),
		"socket outside by ..":           socket("$SNAP_DATA/../../../etc/x"),
		"socket at a directory":          socket("$SNAP_DATA"),
		"socket of unknown variable":     socket("$NOPE/x"),
		"newline in socket":              socket("@snap.one.x\nService=x"),
		"blank in socket":                socket("8080 8081"),
		"no address":                     socket(""),
		"socket variable by the author": func(a *snap.App) {
			env("SNAP_DATA", "/etc")(a)
			socket("$SNAP_DATA/../../x")(a)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := wrappers.Units(one(edit), testOptions())
			if err == nil {
				t.Errorf("not refused: %s", set.Files[0].Data)
			} else if !strings.HasPrefix(err.Error(), "cannot ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("bad error text %q", err)
			}
		})
	}
	if _, err := wrappers.Units(one(func(*snap.App) {}), testOptions()); err != nil {
		t.Errorf("the harmless one is refused: %v", err)
	}
}

// The author's idea of SNAP_DATA does not move the link that root makes.
func TestSocketIgnoresEnvironment(t *testing.T) {
	t.Parallel()
	info := one(func(a *snap.App) {
		a.Environment = []snap.EnvVar{{Name: "SNAP_DATA", Value: "/etc"}}
		a.Sockets = []*snap.Socket{{App: a, Name: "s", ListenStream: "$SNAP_DATA/x"}}
	})
	set, err := wrappers.Units(info, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Links) != 1 || set.Links[0].Path != "/var/snap/one/5/x" {
		t.Errorf("links are %v", set.Links)
	}
}

// A refresh must not close a socket: its unit is the same for every revision.
func TestSocketUnitsOutliveRevisions(t *testing.T) {
	t.Parallel()
	_, parts := readCase(t, "testdata/units/sockets.txt")
	sockets := func(rev snap.Revision) (out []wrappers.File) {
		set, err := wrappers.Units(parse(t, parts[0].text, rev), testOptions())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range set.Files {
			if filepath.Ext(f.Path) == ".socket" {
				out = append(out, f)
			}
		}
		return out
	}
	a, b := sockets(1), sockets(-99)
	if len(a) == 0 || !reflect.DeepEqual(a, b) {
		t.Errorf("socket units differ:\n%s\n%s", a, b)
	}
}

// What the design forbids: each can kill, stop or starve a process that endures.
func TestForbiddenDirectives(t *testing.T) {
	t.Parallel()
	for _, path := range cases(t, "units") {
		_, parts := readCase(t, path)
		set, err := wrappers.Units(parse(t, parts[0].text, 7), testOptions())
		if err != nil {
			continue
		}
		for _, f := range set.Files {
			for _, line := range strings.Split(string(f.Data), "\n") {
				key, value, _ := strings.Cut(line, "=")
				bad := slices.Contains([]string{"BindsTo", "PartOf", "StopWhenUnneeded", "PrivateTmp", "ExecStartPre", "ExecStartPost",
					"Upholds", "DynamicUser", "RefuseManualStop", "ExitType"}, key)
				bad = bad || key == "KillMode" && value == "none"
				bad = bad || key == "WorkingDirectory" && !strings.HasPrefix(value, "/var/snap/")
				bad = bad || key == "Requires" && strings.Contains(value, "gate")
				bad = bad || filepath.Ext(f.Path) == ".socket" && (key == "Requires" || key == "After" || key == "BindsTo")
				if bad {
					t.Errorf("%s: %s", f.Path, line)
				}
			}
		}
	}
}

func TestUserEnv(t *testing.T) {
	t.Parallel()
	info := one(func(a *snap.App) {
		a.Environment = []snap.EnvVar{{Name: "BOTH", Value: "$LANG:$SNAP_NAME:$HOME"}, {Name: "PATH", Value: "$SNAP/bin:$PATH"}}
	})
	user := wrappers.User{UID: 1000, EUID: 1000, Home: "/home/u", Environ: []string{"LANG=C", "HOME=/home/u", "PATH=/opt", "A=b=c"}}
	get := func() map[string]string {
		m := map[string]string{}
		for _, v := range wrappers.Env(info, info.Apps["svc"], user, testOptions()) {
			if _, twice := m[v.Name]; twice {
				t.Errorf("%s comes twice", v.Name)
			}
			m[v.Name] = v.Value
		}
		return m
	}
	for name, want := range map[string]string{
		"SNAP": "/snap/one/5", "SNAP_USER_DATA": "/home/u/snap/one/5", "SNAP_USER_COMMON": "/home/u/snap/one/common",
		"HOME": "/home/u/snap/one/5", "SNAP_REAL_HOME": "/home/u", "SNAP_UID": "1000", "XDG_RUNTIME_DIR": "/run/user/1000/snap.one",
		"BOTH": "C:one:/home/u/snap/one/5", "PATH": "/snap/one/5/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/usr/local/games",
	} {
		if got := get()[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	info.Confinement = "classic"
	classic := get()
	if _, set := classic["XDG_RUNTIME_DIR"]; set || classic["PATH"] != "/snap/one/5/bin:/opt" || classic["BOTH"] != "C:one:/home/u" {
		t.Errorf("classic environment is %v", classic)
	}
}

func TestWriteConverges(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := testOptions()
	o.Dirs = dirs.New(root)
	_, parts := readCase(t, "testdata/units/sockets.txt")
	set := func(rev snap.Revision) []wrappers.File {
		s, err := wrappers.Units(parse(t, parts[0].text, rev), o)
		if err != nil {
			t.Fatal(err)
		}
		return s.Files
	}
	write := func(files []wrappers.File) []string {
		changed, err := wrappers.Write(files, o)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	files := set(1)
	if got := write(files); len(got) != len(files) {
		t.Errorf("first time changed %v", got)
	}
	if got := write(files); len(got) != 0 {
		t.Errorf("second time changed %v", got)
	}
	unit := "/etc/systemd/system/snap.sock.d.service"
	if got := write(set(2)); !slices.Equal(got, []string{unit}) {
		t.Errorf("another revision changed %v", got)
	}
	if data, err := os.ReadFile(root + unit); err != nil || !bytes.Contains(data, []byte("SNAP_REVISION=2")) {
		t.Errorf("unit is %s (%v)", data, err)
	}
	// Whatever is there is replaced: other permissions, a link, a file in a link's place.
	links := []wrappers.File{{Path: "/snap/bin/x", Link: "/usr/bin/snap"}}
	if got := append(write(links), write(links)...); !slices.Equal(got, []string{"/snap/bin/x"}) {
		t.Errorf("link changed %v", got)
	}
	victim := filepath.Join(root, "victim")
	for _, step := range []error{
		os.Chmod(root+unit, 0o666), os.WriteFile(victim, []byte("v"), 0o644),
		os.Remove(root + files[0].Path), os.Symlink(victim, root+files[0].Path),
		os.Remove(root + "/snap/bin/x"), os.WriteFile(root+"/snap/bin/x", nil, 0o644),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	if got := append(write(set(2)), write(links)...); len(got) != 3 {
		t.Errorf("mending changed %v", got)
	}
	if data, _ := os.ReadFile(victim); string(data) != "v" {
		t.Error("wrote through a link")
	}
	left, _ := filepath.Glob(root + "/etc/systemd/system/.*~")
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteFailsWhole(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := wrappers.Options{Dirs: dirs.New(root)}
	if err := os.MkdirAll(root+"/a", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/notadir", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	changed, err := wrappers.Write([]wrappers.File{{Path: "/a/x", Data: []byte("1"), Mode: 0o644}, {Path: "/notadir/y", Mode: 0o644}}, o)
	if err == nil || len(changed) != 0 {
		t.Errorf("got %v, %v", changed, err)
	}
	if entries, _ := os.ReadDir(root + "/a"); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestStage(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := wrappers.Options{Dirs: dirs.New(root)}
	old := []wrappers.File{{Path: "/a/same", Data: []byte("same"), Mode: 0o644}, {Path: "/a/other", Data: []byte("old"), Mode: 0o644}}
	files := []wrappers.File{old[0], {Path: "/a/other", Data: []byte("new"), Mode: 0o644}, {Path: "/b/link", Link: "/x"}}
	names := func() (out []string) {
		for _, dir := range []string{"/a/", "/b/"} {
			entries, _ := os.ReadDir(root + dir)
			for _, e := range entries {
				out = append(out, dir+e.Name())
			}
		}
		return out
	}
	check := func(when, content string, want ...string) {
		t.Helper()
		if data, err := os.ReadFile(root + "/a/other"); err != nil || string(data) != content {
			t.Errorf("%s: the file holds %q, %v", when, data, err)
		}
		if got := names(); !slices.Equal(got, want) {
			t.Errorf("%s: there is %q, not %q", when, got, want)
		}
	}
	if _, err := wrappers.Write(old, o); err != nil {
		t.Fatal(err)
	}
	stage := func() {
		t.Helper()
		if err := wrappers.Stage(files, o); err != nil {
			t.Fatal(err)
		}
	}
	stage()
	check("staged", "old", "/a/.other.snapd~", "/a/other", "/a/same", "/b/.link.snapd~")
	wrappers.Unstage(files, o)
	check("unstaged", "old", "/a/other", "/a/same")

	// half a file of a daemon that was killed
	if err := os.WriteFile(root+"/a/.other.snapd~", []byte("n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stage()
	before, err := os.Stat(root + "/a/.other.snapd~")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := wrappers.Write(files, o)
	if err != nil || !slices.Equal(changed, []string{"/a/other", "/b/link"}) {
		t.Errorf("changed %q, %v", changed, err)
	}
	check("written", "new", "/a/other", "/a/same", "/b/link")
	if after, err := os.Stat(root + "/a/other"); err != nil || !os.SameFile(before, after) {
		t.Errorf("what was staged was written again (%v)", err)
	}
}

// What Swap and Withdraw took away comes back without a byte written.
func TestSwapBack(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := wrappers.Options{Dirs: dirs.New(root)}
	old := []wrappers.File{{Path: "/a/file", Data: []byte("old"), Mode: 0o644}, {Path: "/a/gone", Data: []byte("gone"), Mode: 0o600}, {Path: "/a/link", Link: "/old"}}
	files := []wrappers.File{{Path: "/a/file", Data: []byte("new"), Mode: 0o644}, {Path: "/a/fresh", Data: []byte("fresh"), Mode: 0o644}, {Path: "/a/link", Link: "/new"}}
	if _, err := wrappers.Write(old, o); err != nil {
		t.Fatal(err)
	}
	inodes := func() (out []uint64) {
		for _, f := range old {
			var st unix.Stat_t
			if err := unix.Lstat(root+f.Path, &st); err != nil {
				t.Fatal(err)
			}
			out = append(out, st.Ino)
		}
		return out
	}
	before := inodes()
	for range 2 { // as a daemon does that was killed in between
		if _, err := wrappers.Swap(files, o); err != nil {
			t.Fatal(err)
		}
		if _, err := wrappers.Withdraw(old[1:2], o); err != nil {
			t.Fatal(err)
		}
	}
	// what finds nothing to change takes nothing away
	if changed, err := wrappers.Write(files, o); err != nil || len(changed) > 0 {
		t.Errorf("written again: %q, %v", changed, err)
	}
	for range 2 {
		if _, err := wrappers.Swap(old, o); err != nil {
			t.Fatal(err)
		}
		if _, err := wrappers.Withdraw(files[1:2], o); err != nil {
			t.Fatal(err)
		}
	}
	if after := inodes(); !slices.Equal(before, after) {
		t.Errorf("the files are others: %v, not %v", after, before)
	}
	if changed, err := wrappers.Write(old, o); err != nil || len(changed) > 0 {
		t.Errorf("not as before: %q, %v", changed, err)
	}
	wrappers.Unstage(slices.Concat(files, old), o)
	entries, _ := os.ReadDir(root + "/a")
	if len(entries) != 3 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestMakeLinks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := wrappers.Options{Dirs: dirs.New(root)}
	base := root + "/var/snap/x/common"
	if err := os.MkdirAll(base, 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(root, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	link := wrappers.Link{Base: "/var/snap/x/common", Path: "/var/snap/x/common/a/b/s", Target: "/run/snapd/sockets/x"}
	check := func() {
		t.Helper()
		if err := wrappers.MakeLinks([]wrappers.Link{link}, o); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(base + "/a/b/s"); err != nil || got != link.Target {
			t.Errorf("link is %q, %v", got, err)
		}
	}
	inode := func() uint64 {
		var st unix.Stat_t
		if err := unix.Lstat(base+"/a/b/s", &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	check()
	before := inode()
	check()
	if inode() != before {
		t.Error("a link that is right was made again")
	}
	if err := os.Remove(base + "/a/b/s"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(base+"/a/b/s", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	check()

	remove := func() {
		t.Helper()
		if err := wrappers.RemoveLinks([]wrappers.Link{link}, o); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	if _, err := os.Lstat(base + "/a/b/s"); !os.IsNotExist(err) {
		t.Errorf("the link is still there: %v", err)
	}
	remove()
	for _, made := range []func(string) error{
		func(p string) error { return os.WriteFile(p, nil, 0o644) },
		func(p string) error { return os.Symlink("/elsewhere", p) },
	} {
		if err := made(base + "/a/b/s"); err != nil {
			t.Fatal(err)
		}
		remove()
		if err := os.Remove(base + "/a/b/s"); err != nil {
			t.Errorf("what is the snap's own was removed: %v", err)
		}
	}

	// The snap puts a link to elsewhere in the way.
	if err := os.RemoveAll(base + "/a/b"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, base+"/a/b"); err != nil {
		t.Fatal(err)
	}
	if err := wrappers.MakeLinks([]wrappers.Link{link}, o); err == nil {
		t.Error("followed a link of the snap's")
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("wrote outside: %v", entries)
	}
	if err := os.Symlink(link.Target, outside+"/s"); err != nil {
		t.Fatal(err)
	}
	remove()
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Error("removed a link outside")
	}
}

func TestEnsurePrivateTmp(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := wrappers.Options{Dirs: dirs.New(root)}
	info := one(func(*snap.App) {})
	tmp := o.Dirs.PrivateTmp("one")
	elsewhere := filepath.Join(root, "elsewhere")
	// Somebody made the well-known name a link to a directory of theirs.
	for _, err := range []error{os.MkdirAll(root+"/tmp", 0o777), os.Mkdir(elsewhere, 0o777), os.Symlink(elsewhere, root+"/tmp/snap-private-tmp")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := wrappers.EnsurePrivateTmp(info, o); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(elsewhere); len(entries) != 0 {
		t.Errorf("made in a stranger's directory: %v", entries)
	}
	for path, mode := range map[string]os.FileMode{
		root + "/tmp/snap-private-tmp": os.ModeDir | 0o700, filepath.Dir(tmp): os.ModeDir | 0o700, tmp: os.ModeDir | os.ModeSticky | 0o777,
	} {
		if fi, err := os.Lstat(path); err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	info.Confinement = "classic"
	info.Name = "two"
	if err := wrappers.EnsurePrivateTmp(info, o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(o.Dirs.PrivateTmp("two")); err == nil {
		t.Error("a classic snap got a /tmp")
	}
}

func TestStopSide(t *testing.T) {
	t.Parallel()
	_, parts := readCase(t, "testdata/units/everything.txt")
	info := parse(t, parts[0].text, 7)
	got, err := wrappers.StopSide(info.Apps["db"], testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if got.KillSignal != "SIGINT" || got.KillMode != "process" || got.SendSIGKILL || got.Timeout.String() != "250ms" ||
		got.Type != "notify" || got.FDStoreMax != 128 || got.Mount != "snap-full-7.mount" || got.ExecStop == "" {
		t.Errorf("stop side is %+v", got)
	}
}

// FuzzUnits looks for input that gets more into a unit than one value, or that
// makes two answers out of one question.
func FuzzUnits(f *testing.F) {
	f.Add("bin/x $SNAP_DATA", "A", "b c", "bin/stop $MAINPID", "@snap.one.s")
	f.Add("bin/x ${A}% \\", "A", "\"'\\", "", "$SNAP_COMMON/s")
	f.Add("bin/${", "_", "$A$$", "x;y ; z", "8080")
	f.Fuzz(func(t *testing.T, command, name, value, stop, listen string) {
		info := one(func(a *snap.App) {
			a.Command, a.StopCommand = command, stop
			a.Environment = []snap.EnvVar{{Name: name, Value: value}}
			a.Sockets = []*snap.Socket{{App: a, Name: "s", ListenStream: listen}}
		})
		set, err := wrappers.Units(info, testOptions())
		again, err2 := wrappers.Units(info, testOptions())
		if !reflect.DeepEqual(set, again) || (err == nil) != (err2 == nil) {
			t.Fatal("not pure")
		}
		if err != nil {
			return
		}
		known, err := wrappers.Units(one(func(a *snap.App) {
			a.StopCommand = strings.Repeat("x", min(1, len(strings.TrimSpace(stop))))
			a.Environment = []snap.EnvVar{{Name: name, Value: "v"}}
			a.Sockets = []*snap.Socket{{App: a, Name: "s", ListenStream: listen}}
		}), testOptions())
		if err != nil {
			t.Fatal(err)
		}
		for n, file := range set.Files {
			// Lines and their keys do not depend on the values.
			got, want := keys(file.Data), keys(known.Files[n].Data)
			if !slices.Equal(got, want) {
				t.Fatalf("keys are %q, want %q", got, want)
			}
		}
	})
}

func keys(data []byte) (out []string) {
	for _, line := range strings.Split(string(data), "\n") {
		key, _, _ := strings.Cut(line, "=")
		out = append(out, key)
	}
	return out
}
