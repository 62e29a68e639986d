// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"endured/dirs"
	"endured/interfaces/mount"
	"endured/wrappers"
)

// TestReadyContent makes ready what the unit says, of what is current now.
func TestReadyContent(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	root := t.TempDir()
	o := wrappers.Options{Dirs: dirs.New(root)}
	at := func(p string) string { return filepath.Join(root, p) }
	unit := at("etc/systemd/system/snap.c.svc.service")
	text := "[Service]\nExecStart=/x\nX-Content=0:ro:/snap/p/current:/snap/p/current/share\nX-Content=1:rw:/var/snap/p/current:/var/snap/p/current/in\n" +
		"X-Content=2:rw:/var/snap/p/common:/var/snap/p/common/none\n"
	err := errors.Join(os.MkdirAll(at("snap/p/1/share"), 0o755), os.MkdirAll(at("var/snap/p/1/in"), 0o755), os.MkdirAll(at("var/snap/p/2/in"), 0o755),
		os.MkdirAll(filepath.Dir(unit), 0o755), os.Symlink("1", at("snap/p/current")), os.Symlink("1", at("var/snap/p/current")),
		os.WriteFile(at("var/snap/p/2/in/two"), nil, 0o644), os.WriteFile(unit, []byte(text), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mount.MakeReady(o.Dirs.AllContent(), "snap.c.svc", nil); err != nil {
			t.Error(err)
		}
	})
	ready := o.Dirs.Content("snap.c.svc")
	if err := wrappers.ReadyContent("snap.c.svc", o); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(ready + "/0"); to != at("snap/p/1/share") || err != nil {
		t.Errorf("of the image: %q, %v", to, err)
	}
	if err := os.WriteFile(ready+"/1/f", nil, 0o644); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(at("var/snap/p/1/in/f")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(ready + "/2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	// the next start shows the next revision
	if err := errors.Join(os.Remove(at("var/snap/p/current")), os.Symlink("2", at("var/snap/p/current")), wrappers.ReadyContent("snap.c.svc", o)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ready + "/1/two"); err != nil {
		t.Error(err)
	}
	if err := wrappers.SweepContent(o); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ready + "/1/two"); err != nil {
		t.Error("what is wanted is swept away: ", err)
	}
	if err := errors.Join(os.Remove(unit), wrappers.SweepContent(o)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(ready); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is left of a unit that is gone: %v", err)
	}
	for name, text := range map[string]string{"../x": "", "snap.c.bad": "X-Content=0:rx:/a:/b", "snap.c.few": "X-Content=0:ro:/a", "snap.c.odd": "X-Content=1:ro:/a:/a"} {
		if err := os.WriteFile(at("etc/systemd/system/x.service"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(at("etc/systemd/system/"+name+".service"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := wrappers.ReadyContent(name, o); err == nil || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
