// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// badSnap is a file that must not be installed.
type badSnap struct {
	name   string
	yaml   string   // meta/snap.yaml; "" is none, unless a link or node takes its place
	apps   string   // short for a snap.yaml with these apps
	links  []string // "PATH -> TARGET"
	pseudo []string // of mksquashfs: nodes, modes, owners
	files  []string // more files, executable
	spoil  func(raw []byte) []byte
	// accepted says that it is installed, with a warning.
	accepted bool
}

const badHead = "name: bad\nversion: '1'\nsummary: s\ndescription: d\n"

// badSnaps is the corpus. What each is refused with is in testdata/badsnaps.golden.
func badSnaps() []badSnap {
	app := func(keys string) string { return "  a: {command: bin/x" + keys + "}\n" }
	long := strings.Repeat("x", 41)
	return []badSnap{
		{name: "empty file", yaml: badHead, spoil: func([]byte) []byte { return nil }},
		{name: "cut off", yaml: badHead, spoil: func(raw []byte) []byte { return raw[:200] }},
		{name: "not squashfs", yaml: badHead, spoil: func(raw []byte) []byte { copy(raw, "ELF!"); return raw }},
		{name: "header only", yaml: badHead, spoil: func(raw []byte) []byte { return raw[:96] }},
		{name: "a table beyond the end", yaml: badHead, spoil: func(raw []byte) []byte { copy(raw[64:], "\xff\xff\xff\xff\xff\xff\xff\x7f"); return raw }},
		{name: "huge block size", yaml: badHead, spoil: func(raw []byte) []byte { copy(raw[12:], "\x00\x00\x00\x80"); return raw }},
		{name: "unknown compression", yaml: badHead, spoil: func(raw []byte) []byte { copy(raw[20:], "\x63\x00"); return raw }},
		{name: "no snap.yaml"},
		{name: "snap.yaml is a link out", links: []string{"meta/snap.yaml -> ../../../../etc/passwd"}},
		{name: "snap.yaml is an absolute link", links: []string{"meta/snap.yaml -> /etc/passwd"}},
		{name: "snap.yaml is a link inside", links: []string{"meta/snap.yaml -> real.yaml"}, files: []string{"meta/real.yaml"}},
		{name: "snap.yaml is a device", pseudo: []string{"meta/snap.yaml c 644 0 0 1 5"}},
		{name: "snap.yaml is a pipe", pseudo: []string{"meta/snap.yaml i 644 0 0 f"}},
		{name: "snap.yaml is a directory", pseudo: []string{"meta/snap.yaml d 755 0 0"}},
		{name: "meta is a link", links: []string{"meta -> other"}, files: []string{"other/snap.yaml"}},
		{name: "snap.yaml of 2 MiB", yaml: badHead + "# " + strings.Repeat("x", 2<<20)},
		{name: "metadata like a bomb", yaml: badHead + "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"},
		{name: "nested without end", yaml: badHead + "apps: " + strings.Repeat("{a: ", 200) + strings.Repeat("}", 200)},
		{name: "not yaml", yaml: "name: [\n"},
		{name: "a list", yaml: "- name: bad\n"},
		{name: "two documents", yaml: badHead + "---\n" + badHead},
		{name: "duplicate key", yaml: badHead + "name: good\n"},
		{name: "duplicate app", yaml: badHead + "apps:\n" + app("") + app("")},
		{name: "no name", yaml: "version: '1'\nsummary: s\n"},
		{name: "name of another directory", yaml: "name: ../../etc\nversion: '1'\n"},
		{name: "over-long name", yaml: "name: " + long + "\nversion: '1'\n"},
		{name: "over-long version", yaml: "name: bad\nversion: '" + strings.Repeat("1", 40) + "'\n"},
		{name: "version with a newline", yaml: "name: bad\nversion: \"1\\nExecStart=x\"\n"},
		{name: "summary that drives a terminal", yaml: "name: bad\nversion: '1'\nsummary: \"\\e[2J\"\n"},
		{name: "apps is a list", yaml: badHead + "apps: [a]\n"},
		{name: "command is a map", yaml: badHead + "apps: {a: {command: {x: y}}}\n"},
		{name: "over-long app name", yaml: badHead + "apps: {" + strings.Repeat("a", 65) + ": {command: bin/x}}\n"},
		{name: "newline in the environment", apps: app(", daemon: simple, environment: {A: \"x\\nExecStartPre=/bin/sh\"}")},
		{name: "newline in a variable's name", apps: app(", daemon: simple, environment: {\"A\\nB\": x}")},
		{name: "newline in a command", yaml: badHead + "apps: {a: {command: \"bin/x\\nUser=root\"}}\n"},
		{name: "percent in a command", yaml: badHead + "apps: {a: {command: bin/x %h}}\n"},
		{name: "command of the host", yaml: badHead + "apps: {a: {command: /bin/sh}}\n"},
		{name: "command outside", yaml: badHead + "apps: {a: {command: ../../bin/sh}}\n"},
		{name: "command that is not there", yaml: badHead + "apps: {a: {command: bin/y}}\n"},
		{name: "command that is a device", apps: app(""), pseudo: []string{"bin/x c 755 0 0 1 3"}},
		{name: "device node that no command is", apps: app(""), pseudo: []string{"dev d 755 0 0", "dev/null c 666 0 0 1 3", "dev/sda b 660 0 0 8 0"}},
		{name: "setuid and setgid files", apps: app(""), pseudo: []string{"bin/other m 4755 0 0", "bin/x m 2755 0 0"}, accepted: true},
		{name: "command that cannot be executed", apps: app(""), pseudo: []string{"bin/x m 644 0 0"}},
		{name: "command that is a loop of links", apps: app(""), links: []string{"bin/x -> y", "bin/y -> x"}},
		{name: "socket in /etc", apps: app(", daemon: simple, plugs: [network-bind], sockets: {s: {listen-stream: /etc/s}}")},
		{name: "socket mode with setuid", apps: app(", daemon: simple, plugs: [network-bind], sockets: {s: {listen-stream: $SNAP_COMMON/s, socket-mode: 04777}}")},
		{name: "unknown refresh-mode", apps: app(", daemon: simple, refresh-mode: gently")},
		{name: "a mode on an app", apps: app(", refresh-mode: endure")},
		{name: "services in a circle", yaml: badHead + "apps:\n" + app(", daemon: simple, after: [b]") + "  b: {command: bin/x, daemon: simple, after: [a]}\n"},
		{name: "stop-timeout without a unit", apps: app(", daemon: simple, stop-timeout: 30")},
		{name: "a kernel", yaml: badHead + "type: kernel\n"},
		{name: "a base that is not there", yaml: badHead + "base: core99\n"},
		{name: "for another machine", yaml: badHead + "architectures: [s390x]\n"},
		{name: "assumes what is not there", yaml: badHead + "assumes: [flying]\n"},
	}
}

// build packs the snap.
func (b *badSnap) build(t *testing.T, dir string) string {
	t.Helper()
	tree, out := filepath.Join(dir, "tree"), filepath.Join(dir, "bad.snap")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	yaml := b.yaml
	if b.apps != "" {
		yaml = badHead + "plugs: {network-bind: }\napps:\n" + b.apps
	}
	if yaml != "" {
		write(t, tree, "meta/snap.yaml", yaml, 0o644)
	}
	write(t, tree, "bin/other", "#!/bin/sh\n", 0o755)
	if !strings.Contains(strings.Join(append(b.links, b.pseudo...), " "), "bin/x ") || strings.Contains(strings.Join(b.pseudo, " "), " m ") {
		write(t, tree, "bin/x", "#!/bin/sh\n", 0o755)
	}
	for _, f := range b.files {
		write(t, tree, f, badHead, 0o755)
	}
	for _, l := range b.links {
		at, target, _ := strings.Cut(l, " -> ")
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, at)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(tree, at)); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{tree, out, "-noappend", "-no-progress", "-quiet", "-all-root", "-no-xattrs", "-comp", "gzip", "-processors", "1"}
	for _, p := range b.pseudo {
		if strings.HasPrefix(p, "meta/") {
			args = append(args, "-p", "meta d 755 0 0")
		}
		args = append(args, "-p", p)
	}
	if text, err := exec.Command("mksquashfs", args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", b.name, err, text)
	}
	if b.spoil != nil {
		raw, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(out, b.spoil(raw), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestBadSnaps: each is refused with its message, by an installation and by a
// dry run, and nothing of it is left; or it is accepted with a warning.
func TestBadSnaps(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	before := m.world()
	var got strings.Builder
	options := recipes.InstallOptions{Name: "bad.snap", Flags: snapstate.Flags{Dangerous: true}}
	for _, b := range badSnaps() {
		if b.accepted {
			continue
		}
		file := b.build(t, tempDir(t))
		_, planned := m.o.PlanInstallFile(t.Context(), file, options)
		id, err := m.o.InstallFile(t.Context(), m.spool(file), options)
		if err == nil || planned == nil {
			t.Errorf("%s: change %q, plan refused with %v", b.name, id, planned)
			continue
		}
		if err.Error() != planned.Error() {
			t.Errorf("%s: the dry run says %q, the installation %q", b.name, planned, err)
		}
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return r != '\n' && (r < ' ' || r == 0x7f) }) || len(err.Error()) > 1000 {
			t.Errorf("%s: %q", b.name, err)
		}
		fmt.Fprintf(&got, "%s\n    %s\n", b.name, strings.ReplaceAll(err.Error(), "\n", "\n    "))
	}
	m.same(before, m.world())
	m.sound()
	for _, b := range badSnaps() {
		if b.accepted {
			fmt.Fprintf(&got, "%s\n    accepted, with the warning: %s\n", b.name, m.installWarned(b.build(t, tempDir(t)), options))
		}
	}
	m.sound()
	golden(t, "badsnaps.golden", got.String())
}

// spool copies a file to where uploads lie.
func (m *machine) spool(file string) string {
	m.t.Helper()
	out, err := os.CreateTemp(m.dirs.Blobs(), snapstate.SpoolPrefix)
	if err != nil {
		m.t.Fatal(err)
	}
	defer out.Close()
	in, err := os.Open(file)
	if err != nil {
		m.t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.Copy(out, in); err != nil {
		m.t.Fatal(err)
	}
	return out.Name()
}

// installWarned installs a file, removes the snap, and returns what was warned of.
func (m *machine) installWarned(file string, o recipes.InstallOptions) string {
	m.t.Helper()
	sum, _, err := snap.HashFile(m.t.Context(), file)
	if err != nil {
		m.t.Fatal(err)
	}
	m.lib.trees[sum] = filepath.Join(filepath.Dir(file), "tree")
	m.done(m.o.InstallFile(m.t.Context(), m.spool(file), o))
	m.done(m.o.Remove(m.t.Context(), []string{"bad"}, recipes.RemoveOptions{Purge: true}))
	var texts []string
	err = m.o.State().View(func(tx *state.Tx) error {
		for _, w := range tx.Warnings() {
			if strings.Contains(w.Message, `"bad"`) {
				texts = append(texts, w.Message)
			}
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Join(texts, " AND ")
}
