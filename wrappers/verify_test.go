// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"endured/dirs"
	"endured/snap"
	"endured/wrappers"
)

// put writes files below a root, with every program that their Exec lines name.
func put(t *testing.T, root string, files []wrappers.File) {
	t.Helper()
	if _, err := wrappers.Write(files, wrappers.Options{Dirs: dirs.New(root)}); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for _, line := range strings.Split(string(f.Data), "\n") {
			key, value, _ := strings.Cut(line, "=")
			program, _, _ := strings.Cut(value, " ")
			if !strings.HasPrefix(key, "Exec") || program == "" {
				continue
			}
			path := filepath.Join(root, strings.TrimLeft(program, "-+"))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// verify runs systemd-analyze over unit files below a root; it must not find
// anything to say.
func verify(t *testing.T, root string, units []string) (output string, err error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	args := []string{"verify", "--man=no", "--recursive-errors=no", "--root=" + root}
	out, err := exec.Command(tool, append(args, units...)...).CombinedOutput()
	return string(out), err
}

func verifyClean(t *testing.T, root string, units []string) {
	t.Helper()
	if out, err := verify(t, root, units); err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func unitPaths(files []wrappers.File) (units []string) {
	for _, f := range files {
		if strings.HasPrefix(f.Path, "/etc/systemd/system/") {
			units = append(units, f.Path)
		}
	}
	return units
}

func TestUnitsVerify(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var files []wrappers.File
	for _, path := range append(cases(t, "units"), filepath.Join("testdata", "confined", "strict.txt")) {
		_, parts := readCase(t, path)
		info := parse(t, parts[0].text, 7)
		o := testOptions()
		if info.Name == "guarded" {
			o = confinedOptions()
		}
		set, err := wrappers.Units(info, o)
		if err != nil {
			continue // the corpus shows the refusal
		}
		name, data, err := wrappers.MountUnit(info.Name, info.Revision, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, set.Files...)
		files = append(files, wrappers.File{Path: "/etc/systemd/system/" + name, Data: data, Mode: 0o644})
	}
	for _, name := range []string{"snapd.service", "snapd.socket", "snapd-refresh-gate@.service", "snapd.apparmor.service"} {
		data, err := os.ReadFile("../data/systemd/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, wrappers.File{Path: "/etc/systemd/system/" + name, Data: data, Mode: 0o644})
	}
	put(t, root, files)
	units := append(unitPaths(files), "/etc/systemd/system/snapd-refresh-gate@full.service")
	verifyClean(t, root, units)

	// The check itself must be able to fail.
	bad := []wrappers.File{{Path: "/etc/systemd/system/bad.service", Data: []byte("[Service]\nExecStart=/bin/sleep\nKillSigna=1\n"), Mode: 0o644}}
	put(t, root, bad)
	if out, err := verify(t, root, unitPaths(bad)); err == nil && out == "" {
		t.Error("systemd-analyze verify has nothing to say of a unit with an unknown key")
	}
}

func TestPinsVerify(t *testing.T) {
	t.Parallel()
	for _, path := range cases(t, "pins") {
		_, parts := readCase(t, path)
		old, new := parse(t, parts[0].text, 1), parse(t, parts[1].text, -2)
		data, _, err := wrappers.Pin(old, new, "svc", testOptions())
		if err != nil {
			continue
		}
		set, err := wrappers.Units(new, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		pin := wrappers.File{Path: wrappers.PinPath(dirs.New(""), "snap.pin.svc.service"), Data: data, Mode: 0o644}
		put(t, root, append(set.Files, pin))
		verifyClean(t, root, unitPaths(set.Files))
	}
}

// Values with every character that means something to a unit file are known to
// the service as they are, and systemd finds nothing odd in the unit.
func TestOddEnvironmentVerifies(t *testing.T) {
	t.Parallel()
	values := []string{"plain", "two words", `a"b'c\d`, "100%n %% $HOME ${X}", `ends in \`, "", "#;=", "tab\there", "ünï→"}
	info := &snap.Info{Name: "env", Version: "1", Revision: 3, Apps: map[string]*snap.App{}}
	info.Apps["svc"] = &snap.App{Snap: info, Name: "svc", Command: "bin/svc $A $B $C", Daemon: "simple", SendSIGKILL: true}
	for n, v := range values {
		info.Environment = append(info.Environment, snap.EnvVar{Name: string(rune('A' + n)), Value: strings.ReplaceAll(v, "$", "$D")})
	}
	env := map[string]string{}
	list, err := wrappers.ServiceEnv(info.Apps["svc"], testOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		env[v.Name] = v.Value
	}
	if env["C"] != `a"b'c\d` || env["E"] != `ends in \` {
		t.Errorf("environment is %v", env)
	}
	set, err := wrappers.Units(info, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	put(t, root, set.Files)
	verifyClean(t, root, unitPaths(set.Files))
}
