// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"endured/dirs"
	"endured/wrappers"
)

const guarded = "name: guarded\nversion: '1'\nsummary: s\ndescription: d\nconfinement: %s\napps:\n  plugged: {command: bin/x}\n  manager: {command: bin/x}\n"

func TestAppSandbox(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := wrappers.Options{Dirs: dirs.New(root), Confiner: confiner{}}
	at := func(app, confinement string) string {
		t.Helper()
		info := parse(t, fmt.Sprintf(guarded, confinement), 7)
		s, err := wrappers.AppSandbox(info.Apps[app], o)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, m := range append(s.Mounts, s.Content...) {
			line := strings.TrimPrefix(m.Source, root) + ">" + strings.TrimPrefix(m.Target, root)
			if m.ReadOnly {
				line += " ro"
			}
			out = append(out, line)
		}
		slices.Sort(out)
		return fmt.Sprint(s.Strict, s.NoNewPrivileges, s.Capabilities, " ", out)
	}
	data := []string{"/tmp/snap-private-tmp/snap.guarded/tmp>/tmp", "/var/snap/guarded/7>/var/snap/guarded/7",
		"/var/snap/guarded/common>/var/snap/guarded/common", "/var/snap>/var/snap ro"}
	run := []string{">/run", "/run/dbus>/run/dbus", "/run/snapd>/run/snapd ro", "/run/systemd/journal>/run/systemd/journal ro",
		"/run/systemd/notify>/run/systemd/notify ro", "/run/utmp>/run/utmp", "/b>/c", "/var/snap/other/common/a>/snap/guarded/7/a ro"}
	for _, c := range []struct {
		app, confinement, rest string
		mounts                 []string
	}{
		{"plugged", "strict", "true true [CAP_KILL CAP_CHOWN CAP_NET_ADMIN CAP_KILL]", append(run, data...)},
		{"manager", "strict", "true false [CAP_KILL CAP_CHOWN]", data},
		{"plugged", "devmode", "false false []", data},
		{"plugged", "classic", "false false []", nil},
	} {
		slices.Sort(c.mounts)
		if got, want := at(c.app, c.confinement), c.rest+" "+fmt.Sprint(c.mounts); got != want {
			t.Errorf("%s %s: %s\nwant %s", c.app, c.confinement, got, want)
		}
	}
	// what another snap shows is that of its revision at the start
	if err := os.MkdirAll(filepath.Join(root, "var/snap/other"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("12", filepath.Join(root, "var/snap/other/current")); err != nil {
		t.Fatal(err)
	}
	got, err := wrappers.ResolveCurrent(o, "/var/snap/other/current/in")
	if want := filepath.Join(root, "var/snap/other/12/in"); got != want || err != nil {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	if got, err := wrappers.ResolveCurrent(o, "/snap/nosuch/current"); err != nil || !strings.HasSuffix(got, "/snap/nosuch/current") {
		t.Errorf("%s, %v", got, err)
	}
}
