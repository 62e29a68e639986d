// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"endured/snap"
	"endured/wrappers"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata")

// testOptions do not depend on the machine.
func testOptions() wrappers.Options { return wrappers.Options{Arch: "amd64", Machine: "m1"} }

// part is one file of a case: a line "-- NAME --", then its text.
type part struct{ name, text string }

// readCase splits a case into its comment and its files.
func readCase(t *testing.T, path string) (comment string, parts []part) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.SplitAfter(string(data), "\n") {
		name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-- ")
		if name, end := strings.CutSuffix(name, " --"); ok && end {
			parts = append(parts, part{name: name})
		} else if len(parts) == 0 {
			comment += line
		} else {
			parts[len(parts)-1].text += line
		}
	}
	return comment, parts
}

// checkCase compares got, the inputs first, with the file, or rewrites it.
func checkCase(t *testing.T, path, comment string, got []part) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(comment)
	for _, p := range got {
		fmt.Fprintf(&b, "-- %s --\n%s", p.name, p.text)
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s differs (-update accepts); got:\n%s", path, b.String())
	}
}

func parse(t *testing.T, yaml string, rev snap.Revision) *snap.Info {
	t.Helper()
	info, err := snap.Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	info.Revision = rev
	return info
}

func cases(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases in %s (%v)", dir, err)
	}
	return paths
}

// describeSet lists a set the way the corpus shows it.
func describeSet(info *snap.Info, set wrappers.Set) []part {
	var out []part
	for _, f := range set.Files {
		out = append(out, part{fmt.Sprintf("%s %04o", f.Path, f.Mode), string(f.Data)})
	}
	text := ""
	for _, a := range info.Services() {
		text += fmt.Sprintf("service %s: %s\n", a.Name, set.Services[a.Name])
		for _, s := range set.Sockets[a.Name] {
			text += fmt.Sprintf("socket %s: %s\n", a.Name, s)
		}
		if t := set.Timers[a.Name]; t != "" {
			text += fmt.Sprintf("timer %s: %s\n", a.Name, t)
		}
		text += fmt.Sprintf("enable %s: %s\n", a.Name, strings.Join(set.Enable[a.Name], " "))
	}
	for _, l := range set.Links {
		text += fmt.Sprintf("link %s below %s: %s -> %s\n", l.Unit, l.Base, l.Path, l.Target)
	}
	for _, l := range wrappers.Launchers(info, testOptions()) {
		text += fmt.Sprintf("launcher %s -> %s\n", l.Path, l.Link)
	}
	return append(out, part{"set", text})
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, path := range cases(t, "units") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			comment, parts := readCase(t, path)
			info := parse(t, parts[0].text, 7)
			out := parts[:1:1]
			set, err := wrappers.Units(info, testOptions())
			if err != nil {
				out = append(out, part{"error", err.Error() + "\n"})
			} else {
				out = append(out, describeSet(info, set)...)
			}
			checkCase(t, path, comment, out)
		})
	}
}

func TestPins(t *testing.T) {
	t.Parallel()
	for _, path := range cases(t, "pins") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			comment, parts := readCase(t, path)
			old, new := parse(t, parts[0].text, 1), parse(t, parts[1].text, -2)
			out := parts[:2:2]
			data, needed, err := wrappers.Pin(old, new, "svc", testOptions())
			if err != nil {
				out = append(out, part{"error", err.Error() + "\n"})
			} else {
				differs, err := wrappers.StopDiffers(old, new, "svc", testOptions())
				if err != nil {
					t.Error(err)
				}
				out = append(out, part{fmt.Sprintf("pin needed=%v differs=%v", needed, differs), string(data)})
			}
			checkCase(t, path, comment, out)
		})
	}
}

func TestPinOfSameRevision(t *testing.T) {
	t.Parallel()
	_, parts := readCase(t, "testdata/pins/everything.txt")
	info := parse(t, parts[0].text, 3)
	data, needed, err := wrappers.Pin(info, info, "svc", testOptions())
	if data != nil || needed || err != nil {
		t.Errorf("got %q, %v, %v", data, needed, err)
	}
}

func TestMountUnit(t *testing.T) {
	t.Parallel()
	name, data, err := wrappers.MountUnit("hello-world", -12, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	checkCase(t, "testdata/mount.txt", "", []part{{name, string(data)}})
}
