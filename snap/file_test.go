// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const plainYAML = `name: demo
version: 1.0
summary: a demonstration
architectures: [amd64]
apps:
  web:
    command: bin/web --port 80
    daemon: simple
    stop-command: bin/stop
    command-chain: [bin/chain]
`

// skeleton writes files ("path" or "path*" for an executable, "path@" for a
// link) into a new directory.
func skeleton(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		exe, isExe := strings.CutSuffix(name, "*")
		link, isLink := strings.CutSuffix(name, "@")
		path := filepath.Join(dir, name)
		switch {
		case isExe:
			path, mode = filepath.Join(dir, exe), 0o755
		case isLink:
			path = filepath.Join(dir, link)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(content, path)
		} else {
			err = os.WriteFile(path, []byte(content), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func plainSkeleton() map[string]string {
	return map[string]string{
		"meta/snap.yaml": plainYAML, "meta/gui/icon.png": "icon",
		"bin/web*": "#!/bin/sh\n" + strings.Repeat("# a line of a program\n", 30000), "bin/stop@": "web", "bin/chain*": "#!/bin/sh\n",
	}
}

// image packs a directory with mksquashfs and options as they are.
func image(t testing.TB, dir string, options ...string) string {
	t.Helper()
	if _, err := exec.LookPath("mksquashfs"); err != nil {
		t.Skip("mksquashfs is not installed")
	}
	out := filepath.Join(t.TempDir(), "x.snap")
	args := append([]string{dir, out, "-noappend", "-quiet", "-no-progress", "-mkfs-time", "0", "-all-time", "0"}, options...)
	if b, err := exec.Command("mksquashfs", args...).CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, b)
	}
	return out
}

func TestOpenEveryCompression(t *testing.T) {
	t.Parallel()
	dir := skeleton(t, plainSkeleton())
	for _, options := range [][]string{
		{"-comp", "gzip"}, {"-comp", "xz"}, {"-comp", "zstd"}, {"-comp", "lzo", "-no-fragments"}, {"-comp", "xz", "-no-fragments"},
		{"-comp", "xz", "-b", "1M"}, {"-comp", "gzip", "-b", "4K"}, {"-comp", "zstd", "-no-fragments", "-all-root", "-b", "1M"},
		{"-comp", "xz", "-noI", "-noD", "-noF"}, {"-comp", "gzip", "-always-use-fragments"}, {"-comp", "xz", "-no-xattrs", "-nopad"},
		{"-comp", "xz", "-Xdict-size", "100%"}, {"-comp", "zstd", "-Xcompression-level", "22"},
	} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			t.Parallel()
			f, err := Open(image(t, dir, options...))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Info().Name != "demo" || string(f.YAML()) != plainYAML {
				t.Errorf("read %q", f.YAML())
			}
			if err := f.CheckFiles(); err != nil {
				t.Error(err)
			}
			if err := f.SameMeta(dir); err != nil {
				t.Error(err)
			}
			if got := f.MetaFiles(); !slices.Equal(got, []string{"meta/snap.yaml"}) {
				t.Error(got)
			}
		})
	}
}

func TestOpenManyFiles(t *testing.T) {
	t.Parallel()
	files := plainSkeleton()
	for n := range 1000 {
		files[fmt.Sprintf("bin/a-tool-with-a-long-name-%d*", n)] = fmt.Sprint(n)
	}
	f, err := Open(image(t, skeleton(t, files), "-comp", "xz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.CheckFiles(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesCompressions(t *testing.T) {
	t.Parallel()
	dir := skeleton(t, plainSkeleton())
	for comp, want := range map[string]string{
		"lz4":  "cannot read snap file: it is compressed with method 5 (lz4); only xz, lzo, zstd and gzip are supported",
		"lzma": "cannot read snap file: it is compressed with method 2 (lzma); only xz, lzo, zstd and gzip are supported",
	} {
		if _, err := Open(image(t, dir, "-comp", comp)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", comp, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no meta":       {map[string]string{"bin/x*": ""}, "cannot read snap file: it holds no meta/snap.yaml"},
		"no snap.yaml":  {map[string]string{"meta/x": ""}, "cannot read snap file: it holds no meta/snap.yaml"},
		"linked yaml":   {map[string]string{"meta/snap.yaml@": "../x", "x": plainYAML}, "cannot read snap file: its meta/snap.yaml is not a regular file"},
		"linked meta":   {map[string]string{"meta@": "m", "m/snap.yaml": plainYAML}, "cannot read snap file: its meta is not a directory"},
		"link outside":  {map[string]string{"meta/snap.yaml@": "/etc/passwd"}, "cannot read snap file: its meta/snap.yaml leads out of the snap"},
		"directory":     {map[string]string{"meta/snap.yaml/x": ""}, "cannot read snap file: its meta/snap.yaml is not a regular file"},
		"huge yaml":     {map[string]string{"meta/snap.yaml": strings.Repeat("#", maxYAML+1)}, "cannot read snap file: its meta/snap.yaml has 1048577 bytes; at most 1048576 are allowed"},
		"invalid yaml":  {map[string]string{"meta/snap.yaml": "name: x"}, "cannot read snap.yaml:\n- name: "},
		"empty yaml":    {map[string]string{"meta/snap.yaml": ""}, "cannot read snap.yaml: the document is empty"},
		"hooks no dir":  {map[string]string{"meta/snap.yaml": plainYAML, "meta/hooks": ""}, "cannot read snap file: meta/hooks is not a directory"},
		"meta is a fil": {map[string]string{"meta": ""}, "cannot read snap file: it holds no meta/snap.yaml"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, err := Open(image(t, skeleton(t, c.files), "-comp", "gzip"))
			if err == nil {
				f.Close()
			}
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fifo); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Error(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestHooksInImage(t *testing.T) {
	t.Parallel()
	files := plainSkeleton()
	files["meta/hooks/install*"], files["meta/hooks/configure*"] = "", ""
	dir := skeleton(t, files)
	f, err := Open(image(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := []string{"meta/hooks/configure", "meta/hooks/install", "meta/snap.yaml"}
	if got := f.MetaFiles(); !slices.Equal(got, want) {
		t.Error(got)
	}
	unpacked, err := CheckSkeleton(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []*Info{f.Info(), unpacked} {
		hooks := i.SortedHooks()
		if err := i.Supported(); err != nil || len(hooks) != 2 || hooks[1].Command() != "meta/hooks/install" || hooks[1].Snap != i {
			t.Error(hooks, err)
		}
	}
}

func TestCheckCommands(t *testing.T) {
	t.Parallel()
	yaml := "name: demo\nversion: 1\napps:\n"
	app := func(name, command string) { yaml += "  " + name + ": {command: " + command + "}\n" }
	app("ok", "./bin/x -f")
	app("link", "bin/link")
	app("deep", "bin/up/../bin/x") // refused by Parse, so removed below
	yaml = strings.Replace(yaml, "  deep: {command: bin/up/../bin/x}\n", "", 1)
	app("hosts", "bin/sh")
	app("gone", "bin/gone")
	app("nodir", "none/gone")
	app("dangling", "bin/dangling")
	app("mode", "bin/data")
	app("dir", "lib")
	app("loop", "bin/loop")
	app("through", "bin/x/y")
	app("vialink", "also/x")
	dir := skeleton(t, map[string]string{
		"meta/snap.yaml": yaml, "bin/x*": "", "bin/link@": "../lib/../bin/x", "bin/sh@": "/bin/sh", "bin/dangling@": "nothing",
		"bin/data": "", "lib/z": "", "bin/loop@": "loop", "also@": "bin",
	})
	want := `cannot use the files of the snap:
- apps.dangling.command: "bin/dangling" does not exist in the snap
- apps.dir.command: "lib" is not a regular file
- apps.gone.command: "bin/gone" does not exist in the snap
- apps.loop.command: "bin/loop" cannot be found in the snap: too many symbolic links
- apps.mode.command: "bin/data" is not executable
- apps.nodir.command: "none/gone" does not exist in the snap
- apps.through.command: "bin/x/y" does not exist in the snap`
	f, err := Open(image(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.CheckFiles(); err == nil || err.Error() != want {
		t.Errorf("image: %v", err)
	}
	if _, err := CheckSkeleton(dir); err == nil || err.Error() != want {
		t.Errorf("tree: %v", err)
	}
}

func TestSameMeta(t *testing.T) {
	t.Parallel()
	dir := skeleton(t, plainSkeleton())
	f, err := Open(image(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.MkdirAll(filepath.Join(dir, "meta/hooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "meta/hooks/install"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.SameMeta(dir); err == nil || !strings.Contains(err.Error(), "its meta/ is not the one that was validated") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "meta/snap.yaml"), []byte(plainYAML+" "), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.SameMeta(dir); err == nil || !strings.Contains(err.Error(), "its meta/snap.yaml is not the one that was validated") {
		t.Error(err)
	}
}

// openQuickly opens an image that may be anything and uses all of it.
func openQuickly(t testing.TB, data []byte) error {
	t.Helper()
	start := time.Now()
	f, err := OpenReader(bytes.NewReader(data), int64(len(data)))
	if err == nil {
		err = f.CheckFiles()
		f.Close()
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %s", d)
	}
	if err == nil {
		return nil
	}
	var file *FileError
	var invalid *InvalidError
	var tree *TreeError
	if !errors.As(err, &file) && !errors.As(err, &invalid) && !errors.As(err, &tree) {
		t.Errorf("error of type %T: %v", err, err)
	}
	return err
}

func TestOpenMalformed(t *testing.T) {
	t.Parallel()
	dir := skeleton(t, map[string]string{"meta/snap.yaml": plainYAML, "bin/web*": "x", "bin/stop@": "web", "bin/chain*": "y"})
	for _, options := range [][]string{{"-comp", "xz"}, {"-comp", "gzip"}, {"-comp", "zstd"}, {"-comp", "lzo", "-no-fragments"}, {"-comp", "gzip", "-noI", "-noF", "-noD"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			t.Parallel()
			good, err := os.ReadFile(image(t, dir, append(options, "-nopad")...))
			if err != nil {
				t.Fatal(err)
			}
			if err := openQuickly(t, good); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < len(good); n += 1 + len(good)/150 {
				if err := openQuickly(t, good[:n]); err == nil || !strings.HasPrefix(err.Error(), "cannot read snap file: ") {
					t.Errorf("cut to %d bytes: %v", n, err)
				}
			}
			random := rand.New(rand.NewSource(1))
			for range 600 {
				bad := slices.Clone(good)
				for range 1 + random.Intn(3) {
					bad[random.Intn(len(bad))] ^= 1 << random.Intn(8)
				}
				openQuickly(t, bad)
			}
			// All ones in each field of the superblock.
			for at := 0; at < superblockSize; at += 2 {
				bad := slices.Clone(good)
				binary.LittleEndian.PutUint16(bad[at:], 0xffff)
				openQuickly(t, bad)
			}
		})
	}
	for _, garbage := range [][]byte{nil, []byte("hello"), bytes.Repeat([]byte("hsqs"), 500), make([]byte, 4096)} {
		if err := openQuickly(t, garbage); err == nil || !strings.HasPrefix(err.Error(), "cannot read snap file: it is ") && !strings.HasPrefix(err.Error(), "cannot read snap file: its ") {
			t.Errorf("garbage: %v", err)
		}
	}
}

func TestExpanderBounds(t *testing.T) {
	t.Parallel()
	zeros := bytes.Repeat([]byte{0}, 4<<20)
	pack := func(name string, args ...string) []byte {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
		cmd := exec.Command(name, args...)
		cmd.Stdin = bytes.NewReader(zeros)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	t.Run("xz", func(t *testing.T) {
		for what, args := range map[string][]string{
			"large":       {"-c", "-C", "crc32", "--lzma2=dict=64KiB"},
			"dictionary":  {"-c", "-C", "crc32", "--lzma2=dict=1GiB"},
			"many blocks": {"-c", "-C", "crc32", "--lzma2=dict=8KiB", "--block-size=8192"},
		} {
			e, err := newExpander(compXZ, metadataBlock, 128<<10)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.check(pack("xz", args...), true); !errors.Is(err, errBomb) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	t.Run("gzip", func(t *testing.T) {
		e, _ := newExpander(compGzip, metadataBlock, 0)
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		if _, err := io.Copy(z, bytes.NewReader(zeros)); err != nil {
			t.Fatal(err)
		}
		z.Close()
		if err := e.check(b.Bytes(), true); !errors.Is(err, errBomb) {
			t.Error(err)
		}
	})
	t.Run("zstd", func(t *testing.T) {
		e, _ := newExpander(compZstd, metadataBlock, 0)
		defer e.close()
		// A frame without content size: 1000 run-length blocks of 128 KiB.
		frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38}
		for n := range 1000 {
			head := uint32(128<<10)<<3 | 1<<1
			if n == 999 {
				head |= 1
			}
			frame = append(frame, byte(head), byte(head>>8), byte(head>>16), 0)
		}
		if err := e.check(frame, true); !errors.Is(err, errBomb) {
			t.Error(err)
		}
	})
}

func TestHash(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("abc"), 300000)
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(data)
	sum, size, err := HashFile(context.Background(), name)
	if err != nil || sum != hex.EncodeToString(want[:]) || size != int64(len(data)) {
		t.Error(sum, size, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := HashFile(ctx, name); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func BenchmarkOpen(b *testing.B) {
	path := image(b, skeleton(b, plainSkeleton()), "-comp", "xz", "-no-fragments")
	b.ReportAllocs()
	for b.Loop() {
		f, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.CheckFiles(); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
