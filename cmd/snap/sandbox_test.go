// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"endured/client"
	"endured/interfaces/apparmor"
	"endured/interfaces/mount"
)

// inSandbox, if set, has TestMain become a shell in a sandbox below the
// directory that it names, for this script.
const inSandbox = "ENDURED_TEST_SANDBOX"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[2] == "--"+insideFlag {
		os.Exit(newApp().execute(context.Background(), os.Args[1:]))
	}
	top := os.Getenv(inSandbox)
	if top == "" {
		os.Exit(m.Run())
	}
	parts := []mount.Part{
		{Target: "/run"}, {Source: filepath.Join(top, "shown"), Target: "/run/shown", ReadOnly: true},
		{Source: filepath.Join(top, "tmp"), Target: "/tmp"},
		{Source: top, Target: top, ReadOnly: true}, {Source: filepath.Join(top, "own"), Target: filepath.Join(top, "own")},
	}
	moved, _, err := enterSandbox(parts, apparmor.DefaultCapabilities(), true)
	if err == nil {
		fmt.Printf("moved %v\n", moved)
		err = syscall.Exec("/bin/sh", []string{"sh", "-c", os.Args[1]}, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "broken:", err)
	os.Exit(99)
}

// TestSandbox: what is executed in one is the same process, and can neither
// leave it nor lift it.
func TestSandbox(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make mount namespaces")
	}
	// not below /tmp: that is hidden
	top, err := os.MkdirTemp("/var/tmp", "endured-sandbox-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	for _, d := range []string{"shown", "own", "tmp"} {
		if err := os.Mkdir(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		dir, script, out string
		fails            bool
	}{
		{"", "ls -x /run", "shown", false},
		{"", "cat; exit 0", "from stdin", false},
		{"own", "pwd", top + "/own", false},
		{"own", "echo 1 >$PWD/f && cat f /tmp/../" + top + "/own/f", "1\n1", false},
		{"", "echo 1 >f", "", true},
		{"", "echo 1 >/run/shown/f", "", true},
		{"/run", "pwd", "/run", false},
		{"/tmp", "ls", "", false},
		{"", "mount -t tmpfs none /mnt", "", true},
		{"", "mount -o remount,bind,rw " + top, "", true},
		{"", "umount /run", "", true},
		{"", "nsenter -t 1 -m true", "", true},
		{"", "ls /proc/1/root/run", "", true},
		{"", "chattr +i own/f", "", true},
		{"", "hostname other", "", true},
		{"", "unshare --mount true", "", true},
		{"", "grep -c '^CapBnd:.*0000000000000[0-9a-f]*$' /proc/self/status", "1", false},
		{"", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1", false},
	} {
		cmd := exec.Command(os.Args[0], c.script)
		if cmd.Dir = c.dir; !filepath.IsAbs(c.dir) {
			cmd.Dir = filepath.Join(top, c.dir)
		}
		cmd.Env = append(os.Environ(), inSandbox+"="+top, "PWD="+cmd.Dir)
		cmd.Stdin = strings.NewReader("from stdin")
		out, err := cmd.CombinedOutput()
		text := strings.TrimSpace(strings.TrimPrefix(string(out), "moved false\n"))
		if (err != nil) != c.fails || err != nil && cmd.ProcessState.ExitCode() == 99 || !c.fails && text != c.out {
			t.Errorf("%s in %q: %v, %q", c.script, c.dir, err, out)
		}
	}
	if got, err := os.ReadFile(filepath.Join(top, "own/f")); err != nil || string(got) != "1\n" {
		t.Errorf("on the host: %q, %v", got, err)
	}
	cmd := exec.Command(os.Args[0], "pwd; exit 7")
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), inSandbox+"="+top) // below /tmp
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 7 || string(out) != "moved true\n/\n" {
		t.Errorf("from a directory that is hidden: %q", out)
	}
}

// TestContentForUsers: what other snaps share is to be seen in a user's app, too,
// which has no power in the namespace that it takes.
func TestContentForUsers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	top, err := os.MkdirTemp("/var/tmp", "endured-content-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	for _, d := range []string{"shared", "seen", "root"} {
		if err := os.Mkdir(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(os.Args[0])
	self := filepath.Join(top, "snap")
	if err := errors.Join(err, os.WriteFile(self, program, 0o755), os.Chmod(top, 0o755), os.WriteFile(filepath.Join(top, "shared/f"), []byte("x"), 0o666)); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	w.uid = 65534
	sandbox := &client.Sandbox{NoNewPrivileges: true, Content: []client.SandboxMount{
		{Source: filepath.Join(top, "shared"), Target: filepath.Join(top, "seen"), ReadOnly: true}, {Source: "/nothing", Target: "/tmp", Optional: true},
	}}
	prefix := w.contentPrefix(identity{Snap: "demo", App: "app", Revision: "x1"}, sandbox)
	if prefix == nil {
		t.Skip(w.err.String())
	}
	prefix[slices.Index(prefix, "--")+1] = self
	for script, want := range map[string]string{
		"cat " + top + "/seen/f": "x", "id -u; id -g": "65534\n65534", "cat; exit 7": "from stdin",
		"grep CapEff /proc/self/status": "CapEff:\t0000000000000000", "grep CapBnd /proc/self/status": "CapBnd:\t0000000000000000",
		"grep NoNewPrivs /proc/self/status": "NoNewPrivs:\t1", "echo 1 2>&1 >" + top + "/seen/f": "Read-only",
		"umount " + top + "/seen 2>&1": "umount:", "mount -t tmpfs none /mnt 2>&1": "mount:", "echo $ENDURED": "kept",
	} {
		cmd := exec.Command(prefix[0], append(slices.Clone(prefix[1:]), "/bin/sh", "-c", script)...)
		cmd.Dir, cmd.Env = "/", append(os.Environ(), globalRoot+"="+filepath.Join(top, "root"), "ENDURED=kept")
		cmd.Stdin = strings.NewReader("from stdin")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || strings.Contains(script, "exit 7") && cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("%s: %v, %q", script, err, out)
		}
	}
	sandbox.Content = sandbox.Content[1:]
	if p := w.contentPrefix(identity{}, sandbox); p != nil {
		t.Errorf("for nothing: %q", p)
	}
}
