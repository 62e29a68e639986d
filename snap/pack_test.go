// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func needMksquashfs(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("mksquashfs"); err != nil {
		t.Skip("mksquashfs is not installed")
	}
}

func TestPack(t *testing.T) {
	t.Parallel()
	needMksquashfs(t)
	dir := skeleton(t, plainSkeleton())
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, comp := range []string{"", "xz", "lzo", "zstd", "gzip"} {
		t.Run("comp "+comp, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			path, err := Pack(context.Background(), dir, out, PackOptions{Compression: comp})
			if err != nil {
				t.Fatal(err)
			}
			if path != filepath.Join(out, "demo_1.0_amd64.snap") {
				t.Error(path)
			}
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.CheckFiles(); err != nil {
				t.Error(err)
			}
			if err := f.SameMeta(dir); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(out); err != nil || len(left) != 1 {
				t.Error(left, err)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
				t.Error(st.Mode(), err)
			}
		})
	}
}

func TestPackSameBytes(t *testing.T) {
	t.Parallel()
	needMksquashfs(t)
	dir := skeleton(t, plainSkeleton())
	pack := func(into string) []byte {
		t.Helper()
		path, err := Pack(context.Background(), dir, into, PackOptions{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := pack(t.TempDir())
	if !bytes.Equal(first, pack(t.TempDir())) {
		t.Error("packing the same tree twice gave different files")
	}
	inodes := func(data []byte) uint32 { return binary.LittleEndian.Uint32(data[4:]) }
	for range 2 { // into itself, which changes the directory's time: it must not become part of itself
		if n := inodes(pack(dir)); n != inodes(first) {
			t.Errorf("%d files, want %d", n, inodes(first))
		}
	}
}

func TestPackNames(t *testing.T) {
	t.Parallel()
	needMksquashfs(t)
	dir := skeleton(t, plainSkeleton())
	out := t.TempDir()
	if path, err := Pack(context.Background(), dir, out, PackOptions{Filename: "x.snap", Compression: "gzip"}); err != nil || path != filepath.Join(out, "x.snap") {
		t.Error(path, err)
	}
	for _, c := range []struct {
		archs []string
		want  string
	}{{[]string{"all"}, "a_1_all.snap"}, {[]string{"amd64", "arm64"}, "a_1_multi.snap"}} {
		if got := (&Info{Name: "a", Version: "1", Architectures: c.archs}).FileName(); got != c.want {
			t.Error(got)
		}
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	out := t.TempDir()
	for what, c := range map[string]struct {
		change map[string]string
		want   string
	}{
		"no yaml":     {map[string]string{"meta/snap.yaml": "-"}, "cannot read meta/snap.yaml: "},
		"invalid":     {map[string]string{"meta/snap.yaml": "name: demo"}, "cannot read snap.yaml: version: is missing"},
		"base":        {map[string]string{"meta/snap.yaml": plainYAML + "base: core22\n"}, `cannot use snap "demo" here: base: base snaps are not supported yet, found "core22"`},
		"no command":  {map[string]string{"bin/web*": "-"}, "cannot use the files of the snap:\n- apps.web.command: \"bin/web\" does not exist in the snap\n- apps.web.stop-command: "},
		"hook":        {map[string]string{"meta/hooks/fde-setup*": ""}, `cannot use snap "demo" here: meta/hooks/fde-setup: this hook is not run`},
		"hook mode":   {map[string]string{"meta/hooks/install": ""}, "cannot use the files of the snap: hooks.install: \"meta/hooks/install\" is not executable"},
		"no hook":     {map[string]string{"meta/snap.yaml": plainYAML + "hooks: {install: }\n"}, "cannot use the files of the snap: hooks.install: \"meta/hooks/install\" does not exist in the snap"},
		"linked yaml": {map[string]string{"meta/snap.yaml": "-", "meta/snap.yaml@": "x"}, "cannot read meta/snap.yaml: not a regular file: "},
	} {
		files := plainSkeleton()
		for k, v := range c.change {
			if files[k] = v; v == "-" {
				delete(files, k)
			}
		}
		if _, err := Pack(ctx, skeleton(t, files), out, PackOptions{}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	dir := skeleton(t, plainSkeleton())
	if _, err := Pack(ctx, dir, out, PackOptions{Compression: "lz4"}); err == nil || err.Error() != `cannot pack with compression "lz4": use xz, lzo, zstd or gzip` {
		t.Error(err)
	}
	if _, err := Pack(ctx, dir, filepath.Join(out, "none"), PackOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}

// A mksquashfs that fails is a *PackError with what it said. Not parallel: PATH is changed.
func TestPackError(t *testing.T) {
	bin := skeleton(t, map[string]string{"mksquashfs*": "#!/bin/sh\necho FATAL: disk is full >&2\nexit 1\n"})
	dir, out := skeleton(t, plainSkeleton()), t.TempDir()
	path := os.Getenv("PATH")
	t.Setenv("PATH", bin+":"+path)
	var failed *PackError
	if _, err := Pack(context.Background(), dir, out, PackOptions{}); !errors.As(err, &failed) ||
		err.Error() != "cannot pack: mksquashfs: exit status 1: FATAL: disk is full" {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Pack(context.Background(), dir, out, PackOptions{}); !errors.As(err, &failed) ||
		err.Error() != "cannot pack: mksquashfs: not found; install squashfs-tools" {
		t.Error(err)
	}
	t.Setenv("PATH", path)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Pack(ctx, dir, out, PackOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}
