// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"endured/client"
	"endured/interfaces/apparmor"
	"endured/interfaces/mount"
	"endured/osutil"
	"endured/snap"
	"endured/wrappers"
)

// identity says which app's profile a process enters.
type identity struct {
	Snap     string `json:"snap"`
	App      string `json:"app"`
	Revision string `json:"revision"`
	Classic  bool   `json:"classic,omitempty"`
}

// enclose puts what is executed next into the app's sandbox, and into its
// profile. Root, who could undo all else, gets mounts and fewer capabilities, too.
func (a *app) enclose(id identity, s *client.Sandbox, env map[string]string) error {
	if s == nil {
		s = &client.Sandbox{}
	}
	var parts []mount.Part
	var caps []string
	if a.uid == 0 {
		for _, m := range s.Mounts {
			parts = append(parts, mount.Part(m))
			if dir := env["XDG_RUNTIME_DIR"]; m.Target == a.dirs.Under("/run") && dir != "" {
				parts = append(parts, mount.Part{Source: dir, Target: dir, Optional: true})
			}
		}
		parts = append(parts, partsOf(s.Content)...)
		if caps = s.Capabilities; s.Strict && caps == nil {
			caps = []string{}
		}
	}
	return a.seclude(id, parts, caps, s.NoNewPrivileges, env)
}

// seclude enters the sandbox and then the profile: what is mounted is no
// program's of the snap to do.
func (a *app) seclude(id identity, parts []mount.Part, caps []string, noNewPrivileges bool, env map[string]string) error {
	moved, left, err := a.enterSandbox(parts, caps, noNewPrivileges)
	if err != nil {
		return err
	}
	for _, l := range left {
		fmt.Fprintln(a.err, "warning:", l)
	}
	if moved {
		fmt.Fprintln(a.err, "warning: the command cannot see the directory that it is started in, and begins in /")
	}
	return a.confine(id, env)
}

func partsOf(mounts []client.SandboxMount) []mount.Part {
	var out []mount.Part
	for _, m := range mounts {
		out = append(out, mount.Part(m))
	}
	return out
}

// enterSandbox changes the calling thread, on which the goroutine stays. Without
// parts, or for nil as capabilities, that is left as it is. The rest is as of
// mount.Private.
func enterSandbox(parts []mount.Part, capabilities []string, noNewPrivileges bool) (moved bool, left []error, err error) {
	runtime.LockOSThread()
	if len(parts) > 0 {
		if moved, left, err = mount.Private(parts); err != nil {
			return moved, nil, err
		}
	}
	if capabilities != nil {
		if err := osutil.BoundCapabilities(capabilities); err != nil {
			return moved, nil, err
		}
	}
	if noNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return moved, nil, fmt.Errorf("cannot keep programs from giving more privileges: %w", err)
		}
	}
	return moved, left, nil
}

// confine has the program that is executed next run under the app's profile,
// with a directory for temporary files that it may write to.
func (a *app) confine(id identity, env map[string]string) error {
	rev, err := snap.ParseRevision(id.Revision)
	if err != nil {
		return err
	}
	entered, err := apparmor.EnterOnExec(a.dirs, apparmor.Label(id.Snap, id.App, rev))
	if id.Classic {
		return nil // the profile of a classic snap allows everything
	}
	if err == nil && entered {
		env["TMPDIR"] = makeTempDir(fmt.Sprintf("/tmp/snap.%s.%d", id.Snap, a.uid))
	}
	return err
}

// makeTempDir makes a directory that is this user's alone, in a directory
// where everybody may write. If there is another's of that name the app will
// see that it cannot use it.
func makeTempDir(dir string) string {
	_ = os.Mkdir(dir, 0o700)
	return dir
}

// insideFlag has "snap run" go on where contentPrefix led to.
const insideFlag = "inside"

// inside is what it is told there.
type inside struct {
	identity
	Parts           []mount.Part `json:"parts"`
	NoNewPrivileges bool         `json:"no-new-privileges,omitempty"`
}

// contentPrefix returns what is to be executed in front of an app that a user
// runs to whom other snaps show directories, nil if none do. Only in a user
// namespace can a user mount anything; only a program with one thread can enter
// one. In it the user is himself, and all others are nobody.
func (a *app) contentPrefix(id identity, s *client.Sandbox) []string {
	if s == nil || a.uid == 0 {
		return nil
	}
	in := inside{identity: id, NoNewPrivileges: s.NoNewPrivileges}
	for _, p := range partsOf(s.Content) {
		if _, err := os.Lstat(p.Source); err == nil || !p.Optional {
			in.Parts = append(in.Parts, p)
		}
	}
	if len(in.Parts) == 0 {
		return nil
	}
	self, err := os.Executable()
	raw, jsonErr := json.Marshal(in)
	unshare := []string{"/usr/bin/unshare", "--user", "--map-current-user", "--mount", "--propagation", "slave", "--keep-caps", "--"}
	if err == nil && jsonErr == nil {
		err = exec.Command(unshare[0], append(unshare[1:], "/bin/true")...).Run()
	}
	if err != nil {
		fmt.Fprintf(a.err, "warning: the command does not see what other snaps share with it: this host gives no user namespace to users (%v)\n", err)
		return nil
	}
	return append(unshare, self, "run", "--"+insideFlag, string(raw), "--")
}

// runInside goes on in the user namespace: it mounts, gives up what it may do
// there, and becomes the app.
func (a *app) runInside(text string, argv []string) error {
	var in inside
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return fmt.Errorf("cannot read what to show: %w", err)
	}
	env := map[string]string{}
	for _, kv := range a.environ() {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	what := in.Snap + "." + in.App
	if err := a.seclude(in.identity, in.Parts, []string{}, in.NoNewPrivileges, env); err != nil {
		return fmt.Errorf("cannot run %q: %w", what, err)
	}
	return a.become(what, argv, env)
}

// plainSandbox is that of an app of which the daemon cannot be asked what is
// connected to it.
func (a *app) plainSandbox(app *snap.App) (*client.Sandbox, error) {
	s, err := wrappers.AppSandbox(app, wrappers.Options{Dirs: a.dirs, Confiner: plainConfiner{}})
	if err != nil {
		return nil, err
	}
	out := &client.Sandbox{Strict: s.Strict, Capabilities: s.Capabilities, NoNewPrivileges: s.NoNewPrivileges}
	for _, m := range s.Mounts {
		m.Optional = true // the daemon makes what is missing
		out.Mounts = append(out.Mounts, client.SandboxMount(m))
	}
	return out, nil
}

// plainConfiner confines by what the snap says of itself.
type plainConfiner struct{}

func (plainConfiner) Confinement(info *snap.Info, _ string) (wrappers.Confinement, error) {
	if info.Confinement != "strict" {
		return wrappers.Confinement{}, nil
	}
	return wrappers.Confinement{Strict: true, Capabilities: apparmor.DefaultCapabilities()}, nil
}
