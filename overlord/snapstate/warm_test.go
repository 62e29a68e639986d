// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"endured/dirs"
	"endured/snap"
)

const warmYAML = `
name: web
version: 1
apps:
  web:
    command: bin/web --flag
    command-chain: [bin/wrap]
    daemon: simple
  web2:
    command: bin/web
    daemon: simple
  out:
    command: bin/out
    daemon: simple
  pipe:
    command: bin/pipe
    daemon: simple
  tool:
    command: bin/tool
`

func TestWarmReadsWhatServicesStartWith(t *testing.T) {
	t.Parallel()
	info, err := snap.Parse([]byte(warmYAML))
	if err != nil {
		t.Fatal(err)
	}
	info.Revision = snap.Revision(1)
	m := &Manager{Config: Config{Dirs: dirs.New(t.TempDir())}}
	bin := filepath.Join(m.Dirs.Mount("web", info.Revision), "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"web": 300_000, "wrap": 7, "tool": 1_000_000} {
		if err := os.WriteFile(filepath.Join(bin, name), bytes.Repeat([]byte("x"), size), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/zero", filepath.Join(bin, "out")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(bin, "pipe"), 0o755); err != nil {
		t.Fatal(err)
	}
	n, err := m.warm(t.Context(), info)
	if n != 300_007 {
		t.Errorf("read %d bytes, want the two programs of the services, once each: 300007", n)
	}
	if err == nil || !strings.Contains(err.Error(), "bin/out") || strings.Contains(err.Error(), "pipe") {
		t.Errorf("error is %v, want one about the link that leads out, only", err)
	}
}
