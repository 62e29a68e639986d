// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"endured/snap"
	"endured/store"
)

// shelf packs snaps into a directory that only its owner may write.
func shelf(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range names {
		tree := t.TempDir()
		base, version, _ := strings.Cut(strings.TrimSuffix(name, ".snap"), "_")
		yaml := fmt.Sprintf("name: %s\nversion: %q\nsummary: The %s snap\ndescription: d\n", base, version, base)
		write(t, filepath.Join(tree, "meta/snap.yaml"), yaml)
		if _, err := snap.Pack(t.Context(), tree, dir, snap.PackOptions{Filename: name, Compression: "gzip"}); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(1700000000+int64(i), 0)
		if err := os.Chtimes(filepath.Join(dir, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func at(dir string) func() string { return func() string { return dir } }

func channel(t *testing.T, s string) store.Channel {
	t.Helper()
	c, err := store.ParseChannel(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func index(t *testing.T, dir string, channels ...string) *store.Index {
	t.Helper()
	var list []store.Channel
	for _, c := range channels {
		list = append(list, channel(t, c))
	}
	x, err := store.MakeIndex(t.Context(), dir, list)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestMakeIndex gives revisions by name and by age, and keeps what was given.
func TestMakeIndex(t *testing.T) {
	t.Parallel()
	dir := shelf(t, "web_first.snap", "web_7.snap", "db_1.0.snap", "web_last.snap")
	list := func(x *store.Index) (out []string) {
		for _, e := range x.Snaps {
			out = append(out, fmt.Sprintf("%s %d %s %v", e.Name, e.Revision, e.File, e.Channels))
		}
		return out
	}
	want := []string{
		"db 1 db_1.0.snap [latest/stable]", "web 7 web_7.snap [latest/stable]",
		"web 8 web_first.snap [latest/stable]", "web 9 web_last.snap [latest/stable]",
	}
	if got := list(index(t, dir, "")); !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	// a file that is renamed keeps its revision, and one that is gone does not give its own away
	if err := errors.Join(os.Rename(filepath.Join(dir, "web_first.snap"), filepath.Join(dir, "moved.snap")),
		os.Remove(filepath.Join(dir, "web_last.snap")),
		os.Rename(filepath.Join(shelf(t, "web_9.snap"), "web_9.snap"), filepath.Join(dir, "web_9.snap"))); err != nil {
		t.Fatal(err)
	}
	want = []string{
		"db 1 db_1.0.snap [latest/stable]", "web 7 web_7.snap [latest/stable]",
		"web 8 moved.snap [latest/stable]", "web 10 web_9.snap [2/edge latest/beta]",
	}
	if got := list(index(t, dir, "2/edge", "beta")); !reflect.DeepEqual(got, want) {
		t.Errorf("again: %q\nwant %q", got, want)
	}
	write(t, filepath.Join(dir, "bad.snap"), "no squashfs")
	before, _ := os.ReadFile(filepath.Join(dir, store.IndexName))
	if _, err := store.MakeIndex(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "bad.snap") {
		t.Errorf("a bad file: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, store.IndexName)); !bytes.Equal(before, after) {
		t.Error("the index was changed")
	}
}

// TestResolve finds revisions by channel, by revision, and says what there is.
func TestResolve(t *testing.T) {
	t.Parallel()
	dir := shelf(t, "web_1.snap", "web_2.snap", "web_3.snap", "db_1.snap")
	index(t, dir, "stable")
	raw, err := os.ReadFile(filepath.Join(dir, store.IndexName))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	set := func(file, channels string) {
		head, tail, _ := strings.Cut(text, "file: "+file)
		i := strings.LastIndex(head, "[")
		text = head[:i] + "[" + channels + "]\n    file: " + file + tail
	}
	set("web_2.snap", "beta, 2/stable")
	set("web_3.snap", "2/edge/fix")
	write(t, filepath.Join(dir, store.IndexName), text)
	s := store.NewDir(at(dir))
	for _, c := range []struct{ channel, want string }{
		{"", "1 latest/stable"}, {"candidate", "1 latest/stable"}, {"beta", "2 latest/beta"}, {"edge", "2 latest/beta"},
		{"edge/x", "2 latest/beta"}, {"2", "2 2/stable"}, {"2/edge", "2 2/stable"}, {"2/edge/fix", "3 2/edge/fix"},
		{"3", `cannot find snap "web" in channel "3/stable"; there is latest/stable, latest/beta, 2/stable, 2/edge/fix`},
	} {
		res, err := s.Resolve(t.Context(), []store.Action{{Name: "db"}, {Name: "web", Channel: channel(t, c.channel)}})
		if err != nil || res[0].Err != nil || res[0].Snap.Name != "db" {
			t.Fatalf("%s: %v %+v", c.channel, err, res)
		}
		got := fmt.Sprint(res[1].Err)
		if res[1].Err == nil {
			got = fmt.Sprintf("%s %s", res[1].Snap.Revision, res[1].Snap.Channel)
			if !bytes.Contains(res[1].Snap.YAML, []byte("name: web")) {
				t.Errorf("%s: metadata %q", c.channel, res[1].Snap.YAML)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.channel, got, c.want)
		}
	}
	res, err := s.Resolve(t.Context(), []store.Action{{Name: "web", Revision: 3}, {Name: "web", Revision: 4}, {Name: "no"}})
	var noRevision *store.RevisionError
	var notFound *store.NotFoundError
	if err != nil || res[0].Snap.Revision != 3 || !errors.As(res[1].Err, &noRevision) || !errors.As(res[2].Err, &notFound) {
		t.Errorf("%v %+v", err, res)
	}
	d, err := s.Details(t.Context(), "web")
	if err != nil || d.Revision != 1 || len(d.Releases) != 4 {
		t.Errorf("details: %+v, %v", d, err)
	}
	if list, err := s.Search(t.Context(), "THE web"); err != nil || len(list) != 1 {
		t.Errorf("search: %v, %v", list, err)
	}
}

// TestFetch copies, and refuses what is not as described.
func TestFetch(t *testing.T) {
	t.Parallel()
	dir := shelf(t, "web_1.snap")
	index(t, dir, "stable")
	s := store.NewDir(at(dir))
	res, err := s.Resolve(t.Context(), []store.Action{{Name: "web"}})
	if err != nil || res[0].Err != nil {
		t.Fatal(err, res)
	}
	to := filepath.Join(t.TempDir(), "got")
	var told int64
	if err := store.Fetch(t.Context(), s, res[0].Snap, to, func(done, total int64) { told = done }); err != nil || told != res[0].Snap.Size {
		t.Fatalf("%v, told %d", err, told)
	}
	want, _ := os.ReadFile(filepath.Join(dir, "web_1.snap"))
	if got, _ := os.ReadFile(to); !bytes.Equal(got, want) {
		t.Error("what was fetched differs")
	}
	refused := func(what, message string, f func() error) {
		t.Helper()
		if err := f(); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v, want %q", what, err, message)
		}
		if _, err := os.Lstat(to); err == nil {
			t.Errorf("%s: something is left", what)
		}
	}
	other := *res[0].Snap
	other.SHA3 = strings.Repeat("0", 96)
	refused("another hash", "the hash is not what", func() error { return store.Fetch(t.Context(), s, &other, to, nil) })
	other = *res[0].Snap
	other.Size--
	refused("a smaller size", "the size is not what", func() error { return store.Fetch(t.Context(), s, &other, to, nil) })
	other.Size += 2
	refused("a larger size", "the size is not what", func() error { return store.Fetch(t.Context(), s, &other, to, nil) })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	refused("given up", "enough", func() error { return store.Fetch(ctx, s, res[0].Snap, to, nil) })
	if err := os.Remove(filepath.Join(dir, "web_1.snap")); err != nil {
		t.Fatal(err)
	}
	refused("the file is gone", "no such file", func() error { return store.Fetch(t.Context(), s, res[0].Snap, to, nil) })
}

// TestTrust: what others could have written is not used.
func TestTrust(t *testing.T) {
	t.Parallel()
	for what, spoil := range map[string]struct {
		f       func(dir string) error
		message string
	}{
		"a directory for all":  {func(dir string) error { return os.Chmod(dir, 0o777) }, "may be written by others"},
		"an index for all":     {func(dir string) error { return os.Chmod(filepath.Join(dir, store.IndexName), 0o666) }, "may be written by others"},
		"a file for the group": {func(dir string) error { return os.Chmod(filepath.Join(dir, "web_1.snap"), 0o664) }, "may be written by others"},
		"a link for a file": {func(dir string) error {
			f := filepath.Join(dir, "web_1.snap")
			return errors.Join(os.Rename(f, f+".x"), os.Symlink(f+".x", f))
		}, "too many levels of symbolic links"},
		"another size": {func(dir string) error { return os.Truncate(filepath.Join(dir, "web_1.snap"), 100) }, "the size of web_1.snap is not what"},
		"no index":     {func(dir string) error { return os.Remove(filepath.Join(dir, store.IndexName)) }, "'snap debug store-index"},
		"another name": {func(dir string) error {
			p := filepath.Join(dir, store.IndexName)
			raw, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(p, bytes.Replace(raw, []byte("name: web"), []byte("name: wab"), 1), 0o644))
		}, "the name in web_1.snap"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := shelf(t, "web_1.snap")
			index(t, dir, "stable")
			if err := spoil.f(dir); err != nil {
				t.Fatal(err)
			}
			name := "web"
			if what == "another name" {
				name = "wab"
			}
			res, err := store.NewDir(at(dir)).Resolve(t.Context(), []store.Action{{Name: name}})
			if err == nil && len(res) == 1 {
				err = res[0].Err
			}
			if err == nil || !strings.Contains(err.Error(), spoil.message) {
				t.Errorf("%v, want %q", err, spoil.message)
			}
		})
	}
	if _, err := store.NewDir(at("relative")).Details(t.Context(), "web"); err == nil {
		t.Error("a relative path was used")
	}
}

// TestParseChannel reads every form of a name.
func TestParseChannel(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "latest/stable", "edge": "latest/edge", "latest": "latest/stable", "1.0": "1.0/stable", "1.0/beta": "1.0/beta",
		"edge/fix": "latest/edge/fix", "1.0/edge/fix": "1.0/edge/fix", "latest/stable": "latest/stable",
	} {
		if c := channel(t, in); c.String() != want {
			t.Errorf("%q is %s, want %s", in, c, want)
		}
	}
	for _, in := range []string{"/", "a/b", "a/b/c", "a/edge/b/c", "edge/", "-", "a b", "latest/stable/\n", strings.Repeat("x", 50)} {
		if c, err := store.ParseChannel(in); err == nil {
			t.Errorf("%q is %s", in, c)
		}
	}
	if c, err := channel(t, "2/stable").Resolve("edge"); err != nil || c.String() != "2/edge" {
		t.Errorf("%s, %v", c, err)
	}
	if c, err := channel(t, "2/stable").Resolve("3"); err != nil || c.String() != "3/stable" {
		t.Errorf("%s, %v", c, err)
	}
}

// FuzzIndex: no index makes the reader panic, or name what lies elsewhere.
func FuzzIndex(f *testing.F) {
	sum := strings.Repeat("0a", 48)
	f.Add([]byte("snaps:\n- {name: web, revision: 1, channels: [edge], file: web.snap, size: 1, sha3-384: " + sum + "}\n"))
	f.Add([]byte("snaps: [&a {name: *a}]"))
	f.Add([]byte("snaps:\n- {name: web, revision: 1, channels: [a/b], file: ../x, size: 1, sha3-384: " + sum + "}\n"))
	f.Add([]byte("{}\n---\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := store.ParseIndex(data)
		if err != nil {
			return
		}
		for _, e := range x.Snaps {
			if e.File != filepath.Base(e.File) || e.Revision <= 0 || snap.CheckName(e.Name) != nil {
				t.Errorf("accepted %+v", e)
			}
		}
	})
}
