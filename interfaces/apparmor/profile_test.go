// SPDX-License-Identifier: Apache-2.0

package apparmor_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"endured/dirs"
	"endured/interfaces/apparmor"
	"endured/snap"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata")

// golden are sets whose text is kept in testdata.
func golden() map[string]*apparmor.Set {
	svc := apparmor.Profile{App: "svc", Service: true}
	plugged := apparmor.Profile{
		App: "svc", Service: true, Capabilities: []string{"CAP_NET_ADMIN"},
		Rules: []string{"network inet,", "network inet6,", "owner /{root,home/*}/{,**} rwkl,"},
	}
	return map[string]*apparmor.Set{
		"service":   {Snap: "web", Revision: 7, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{svc}},
		"app":       {Snap: "web", Revision: -1, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{{App: "cli"}}},
		"hook":      {Snap: "web", Revision: 7, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{{Hook: "configure"}}},
		"plugged":   {Snap: "web", Revision: 7, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{plugged}},
		"devmode":   {Snap: "web", Revision: 7, Mode: apparmor.Complain, Profiles: []apparmor.Profile{svc}},
		"classic":   {Snap: "web", Revision: 7, Mode: apparmor.Unconfined, Profiles: []apparmor.Profile{svc}},
		"sealed":    {Snap: "web", Revision: 7, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{plugged}, Seal: &apparmor.Seal{}},
		"successor": {Snap: "web", Revision: 7, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{svc}, Seal: &apparmor.Seal{Successor: 8, Into: []string{"svc"}}},
	}
}

// TestGolden shows the profiles, and has the parser of this machine compile
// every one of them. It needs the package apparmor, and not a kernel with it.
func TestGolden(t *testing.T) {
	t.Parallel()
	parser := apparmor.Offline(dirs.New("/"))
	if err := parser.Check(); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	for name, set := range golden() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			texts, err := set.Texts()
			if err != nil {
				t.Fatal(err)
			}
			if len(texts) != 1 {
				t.Fatalf("%d texts", len(texts))
			}
			got := texts[set.Labels()[0]]
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(want) != got {
				t.Errorf("%s differs (-update accepts); got:\n%s", path, got)
			}
			compiled, err := parser.Compile(t.Context(), filepath.Join(t.TempDir(), "work"), map[string]string{"one": got})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(compiled["one"]), set.Labels()[0]) {
				t.Errorf("what was compiled does not name %s", set.Labels()[0])
			}
		})
	}
}

// TestParserOfSeveral: each text has a result of its own, and one that does not
// compile keeps no other from it.
func TestParserOfSeveral(t *testing.T) {
	t.Parallel()
	parser := apparmor.Offline(dirs.New("/"))
	dir := filepath.Join(t.TempDir(), "work")
	texts := map[string]string{"a": "profile first {\n /a r,\n}\n", "b": "profile second {\n /b r,\n}\n", "c": "profile x {\n /a rz,\n}\n", "d": "profile y {\n /a px,\n /a ix,\n}\n"}
	compiled, err := parser.Compile(t.Context(), dir, texts)
	if err == nil || !strings.Contains(err.Error(), "error for c in profile c at line 2: syntax error") || !strings.Contains(err.Error(), "profile y: has merged rule /a with conflicting x modifiers") {
		t.Errorf("got %v", err)
	}
	if len(compiled) != 2 || !strings.Contains(string(compiled["a"]), "first") || !strings.Contains(string(compiled["b"]), "second") || strings.Contains(string(compiled["b"]), "first") {
		t.Errorf("got %q", compiled)
	}
	delete(texts, "c")
	delete(texts, "d")
	again, err := parser.Compile(t.Context(), dir, texts)
	if err != nil || !reflect.DeepEqual(again, compiled) {
		t.Errorf("alone: %v, %q", err, again)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left (%v)", dir, err)
	}
}

// TestHostileValues has every place where text enters a profile refuse what
// would be more than a value there.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	hostile := []string{
		"", "a b", "a,", "a\n/** rw,", "a}", "{a,b}", "a*", "a?", "[a]", "a\"", "a\\", "a#b", "@{HOME}", "a\x00", "a^b", "a!b", "a$b", "a'b", "a;b", "ä", "a\tb",
	}
	for _, v := range hostile {
		if err := apparmor.CheckValue(v); err == nil {
			t.Errorf("CheckValue takes %q", v)
		}
		for _, set := range []*apparmor.Set{
			{Snap: v, Revision: 1, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{{App: "a"}}},
			{Snap: "web", Revision: 1, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{{App: v}}},
			{Snap: "web", Revision: 1, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{{Hook: v}}},
			{Snap: "web", Revision: 1, Mode: apparmor.Mode(v), Profiles: []apparmor.Profile{{App: "a"}}},
			{Snap: "web", Revision: 1, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{{App: "a", Capabilities: []string{v}}}},
		} {
			if _, err := set.Texts(); err == nil {
				t.Errorf("%+v makes a profile", set)
			}
		}
	}
	for _, v := range []string{"/a/b", "org.example.Foo", "a-b_c+d:e=f~g%h"} {
		if err := apparmor.CheckValue(v); err != nil {
			t.Error(err)
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	texts := func(rule string) error {
		set := &apparmor.Set{Snap: "web", Revision: 1, Mode: apparmor.Enforce, Profiles: []apparmor.Profile{{App: "a", Rules: []string{rule}}}}
		_, err := set.Texts()
		return err
	}
	for _, rule := range []string{
		"network inet,", "/etc/{a,b}/** rw,", "owner @{HOME}/** r,", `"/with space" r,`, "audit deny /x w,", "dbus (send) bus=system peer=(label=unconfined),",
		"capability net_admin,", "change_profile -> unconfined,", "mount fstype=tmpfs,", "/usr/bin/x px -> y,",
	} {
		if err := texts(rule); err != nil {
			t.Error(err)
		}
	}
	for _, rule := range []string{
		"", ",", "network inet", "/x r,\n/y w,", "/x r, }", "} profile evil {", "profile evil { /** rw, }", "#include <x>,", "include <abstractions/base>,", "/x r, # ,", "hat h {},", "^h {},",
		`"/x r,`, "{ /x r,", "/x} r,{", "@INCLUDE,", "set rlimit nofile <= 1,", "alias /a -> /b,", "/x \x01r,",
	} {
		if err := texts(rule); err == nil {
			t.Errorf("rule %q is taken", rule)
		}
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		snap, name string
		rev        snap.Revision
		label      string
	}{
		{"web", "svc", 7, "snap.web.svc.7"},
		{"web-2", "hook.configure", -3, "snap.web-2.hook.configure.x3"},
	} {
		if got := apparmor.Label(c.snap, c.name, c.rev); got != c.label {
			t.Errorf("got %s", got)
		}
		s, n, r, ok := apparmor.ParseLabel(c.label)
		if !ok || s != c.snap || n != c.name || r != c.rev {
			t.Errorf("%s: %q %q %v %v", c.label, s, n, r, ok)
		}
	}
	for _, l := range []string{"", "unconfined", "snap.web", "snap.web.svc", "snap.web.svc.0", "snap.web.svc.7 (enforce)", "snap.web.svc.7//&x", "snap.we b.svc.7", "/usr/bin/man"} {
		if _, _, _, ok := apparmor.ParseLabel(l); ok {
			t.Errorf("%q is taken for a label", l)
		}
	}
}

// TestInterfaces compiles what each interface adds, in an open profile and in
// a sealed one.
func TestInterfaces(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../builtin/testdata/*.golden")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no goldens of interfaces (%v)", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var profiles []apparmor.Profile
			for _, line := range strings.Split(string(data), "\n") {
				kind, value, _ := strings.Cut(strings.TrimSpace(line), " ")
				value = strings.TrimSpace(value)
				switch {
				case value == "" && strings.Contains(kind, "."):
					profiles = append(profiles, apparmor.Profile{App: strings.ReplaceAll(kind, ".", "-"), Service: true})
				case kind == "apparmor":
					p := &profiles[len(profiles)-1]
					p.Rules = append(p.Rules, value)
				case kind == "capability":
					p := &profiles[len(profiles)-1]
					p.Capabilities = append(p.Capabilities, value)
				}
			}
			set := &apparmor.Set{Snap: "consumer", Revision: 7, Mode: apparmor.Enforce, Profiles: profiles}
			for _, seal := range []*apparmor.Seal{nil, {Successor: 8, Into: []string{profiles[0].App}}} {
				set.Seal = seal
				texts, err := set.Texts()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := apparmor.Offline(dirs.New("/")).Compile(t.Context(), filepath.Join(t.TempDir(), "work"), texts); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
