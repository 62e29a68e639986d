// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"endured/dirs"
	"endured/snap"
	"endured/systemd"
)

// TestRevisionOf: what the main process executes counts, if it is one of the
// snap's programs; else what was recorded, else what its environment says.
func TestRevisionOf(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	root := os.Getenv("TEST_REVISION_ROOT")
	if root == "" { // in a mount namespace of its own
		c := exec.Command("unshare", "--mount", os.Args[0], "-test.run=^TestRevisionOf$")
		c.Env = append(os.Environ(), "TEST_REVISION_ROOT="+t.TempDir())
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	m := &Manager{Config: Config{Dirs: dirs.New(root), CgroupRoot: t.TempDir()}}
	rec := &Record{
		Name: "web", Current: 3, Sequence: []Revision{{Revision: 1}, {Revision: 2}, {Revision: 3}},
		Started: map[string]Started{"svc": {InvocationID: "now", Revision: 1}},
	}
	program, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	programs := map[snap.Revision]string{0: "/bin/sleep"}
	for _, e := range rec.Sequence {
		dir := m.Dirs.Mount(rec.Name, e.Revision)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if e.Revision == 3 {
			continue // what is not mounted is the host's
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		programs[e.Revision] = filepath.Join(dir, "sleep")
		if err := os.WriteFile(programs[e.Revision], program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		executes   snap.Revision
		env        string
		invocation string
		want       snap.Revision
	}{
		"as recorded":                 {1, "1", "now", 1},
		"it put itself into another":  {2, "1", "now", 2},
		"a program of the host":       {0, "2", "now", 1},
		"not recorded":                {0, "2", "later", 2},
		"not recorded, no word of it": {1, "", "later", 1},
		"nothing is known":            {0, "", "later", 3},
	} {
		cmd := exec.Command(programs[c.executes], "1000")
		cmd.Env = []string{}
		if c.env != "" {
			cmd.Env = []string{"SNAP_NAME=web", "SNAP_REVISION=" + c.env}
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got := m.RevisionOf(rec, "svc", systemd.UnitStatus{MainPID: cmd.Process.Pid, InvocationID: c.invocation})
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}
