// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// FuzzParse checks that no document makes Parse panic or take long, and that
// nothing it accepts could be more than a word in a unit.
func FuzzParse(f *testing.F) {
	for _, c := range invalid {
		f.Add([]byte(c.yaml))
	}
	for _, c := range valid {
		f.Add([]byte(c.yaml))
	}
	files, err := filepath.Glob("testdata/golden/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := Parse(data)
		if err != nil {
			if i != nil || strings.IndexFunc(strings.ReplaceAll(err.Error(), "\n- ", " "), unicode.IsControl) >= 0 {
				t.Errorf("error %q", err)
			}
			return
		}
		_ = i.Supported()
		words := []string{i.Name, i.Version, i.Title, i.Summary, i.License}
		for _, a := range i.Services() {
			words = append(words, a.Name, a.Unit(), a.Command, a.StopCommand, a.ReloadCommand, a.PostStopCommand, a.PIDFile, a.BusName, a.Timer)
			words = append(words, a.CommandChain...)
			for _, s := range a.Sockets {
				words = append(words, s.Unit(), s.ListenStream)
			}
			for _, e := range append(a.Environment, i.Environment...) {
				words = append(words, e.Name, e.Value)
			}
			if strings.HasPrefix(a.Command, "/") || strings.Contains("/"+firstWord(a.Command)+"/", "/../") {
				t.Errorf("command %q", a.Command)
			}
		}
		for _, w := range words {
			if strings.IndexFunc(w, unicode.IsControl) >= 0 {
				t.Errorf("accepted %q", w)
			}
		}
		if CheckName(i.Name) != nil || len(i.Version) > maxVersion {
			t.Errorf("accepted %q %q", i.Name, i.Version)
		}
	})
}

// FuzzOpenReader checks that no image makes OpenReader panic, hang or grow.
func FuzzOpenReader(f *testing.F) {
	dir := skeleton(f, map[string]string{"meta/snap.yaml": plainYAML, "bin/web*": "x", "bin/stop@": "web", "bin/chain*": "y"})
	for _, options := range [][]string{{"-comp", "xz"}, {"-comp", "gzip"}, {"-comp", "zstd"}, {"-comp", "lzo", "-no-fragments"}, {"-noI", "-noF", "-noD"}} {
		data, err := os.ReadFile(image(f, dir, append(options, "-nopad")...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { openQuickly(t, data) })
}
