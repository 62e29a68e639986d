// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// meanwhile calls do again and again, in goroutines that end when the returned
// function is called or the test ends.
func meanwhile(t *testing.T, do ...func()) (end func()) {
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, fn := range do {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					fn()
				}
			}
		})
	}
	end = sync.OnceFunc(func() {
		close(stop)
		running.Wait()
	})
	t.Cleanup(end)
	return end
}

func swap(a, b string) func() {
	return func() { unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) }
}

// TestHostileSource swaps directories and files for links to a secret, back
// and forth, while they are copied and removed. Nothing of the secret may be
// read, and nothing outside may be written.
func TestHostileSource(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	f := newFixture(t, base)
	outside := t.TempDir()
	secret := filepath.Join(outside, "file")
	must(t, os.WriteFile(secret, []byte("SECRET"), 0o600))
	must(t, os.Mkdir(filepath.Join(outside, "sub"), 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "sub/file"), []byte("SECRET"), 0o600))
	before := snapshot(t, outside)

	f.write("dir/file", "ours")
	f.write("dir/sub/file", "ours")
	f.write("other/file", "ours")
	f.write("file", "ours")
	must(t, os.Symlink(outside, f.path("dir-link")))
	must(t, os.Symlink(secret, f.path("file-link")))
	must(t, unix.Mkfifo(f.path("pipe"), 0o600))

	end := meanwhile(t, swap(f.path("dir"), f.path("dir-link")), swap(f.path("file"), f.path("file-link")),
		swap(f.path("other"), f.path("pipe")))
	copies := 0
	for until := time.Now().Add(time.Second); time.Now().Before(until); copies++ {
		must(t, f.c.prepare(context.Background(), 0))
		_, err := f.c.pass(context.Background(), true, false)
		must(t, err)
		if _, err := f.c.Differences(context.Background()); err != nil && !errors.Is(err, errRaced) {
			t.Fatal(err)
		}
		checkNoSecret(t, f.c.Temporary())
		must(t, f.c.Abandon())
	}
	end()
	t.Logf("%d copies", copies)
	for name, line := range snapshot(t, outside) {
		if before[name] != line {
			t.Errorf("%s was changed:\n%s\n%s", name, before[name], line)
		}
		delete(before, name)
	}
	if len(before) > 0 {
		t.Errorf("removed: %v", before)
	}
	f.age()
	f.first()
	f.differences()
	f.compare()
}

func checkNoSecret(t *testing.T, root string) {
	t.Helper()
	for name := range snapshot(t, root) {
		info, err := os.Lstat(filepath.Join(root, name))
		must(t, err)
		if !info.Mode().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		must(t, err)
		if bytes.Contains(data, []byte("SECRET")) {
			t.Fatalf("%s holds what is outside", name)
		}
	}
}

// TestHostileRemoval swaps what is removed for a link to something outside.
func TestHostileRemoval(t *testing.T) {
	t.Parallel()
	base, outside := t.TempDir(), t.TempDir()
	f := newFixture(t, base)
	must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "sub/file"), []byte("keep"), 0o600))
	before := snapshot(t, outside)
	must(t, os.Symlink(outside, filepath.Join(base, "link")))
	end := meanwhile(t, swap(f.path("dir"), filepath.Join(base, "link")))
	for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); {
		os.MkdirAll(f.path("dir/sub/sub"), 0o700)
		os.WriteFile(f.path("dir/sub/mine"), nil, 0o600)
		err := Remove(context.Background(), f.src)
		// The races that are left are refusals.
		if err != nil && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			t.Fatal(err)
		}
		// MkdirAll and WriteFile above do follow the link.
		os.Remove(filepath.Join(outside, "sub/mine"))
		os.Remove(filepath.Join(outside, "sub/sub"))
	}
	end()
	if _, err := os.Stat(filepath.Join(outside, "sub/file")); err != nil || len(before) != 3 {
		t.Errorf("what is outside: %v", err)
	}
}

// TestVanishingFiles makes and removes files all the time.
func TestVanishingFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.write("stays", "x")
	end := meanwhile(t, func() {
		f.write("comes/and/goes", "x")
		os.Rename(f.path("comes/and/goes"), f.path("comes/gone"))
		os.RemoveAll(f.path("comes"))
	})
	for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); {
		must(t, f.c.prepare(context.Background(), 0))
		_, err := f.c.pass(context.Background(), true, false)
		must(t, err)
		f.differences()
	}
	end()
	f.differences()
	f.compare()
}
