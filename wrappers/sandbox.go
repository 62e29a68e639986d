// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"endured/interfaces/mount"
	"endured/snap"
)

// Sandbox is what an app that root runs is put into. It has no unit: "snap run"
// does for it what PID 1 does for a service.
type Sandbox struct {
	// Mounts are what it sees otherwise than the host; none: it sees the host.
	Mounts []mount.Part
	// Content are directories of other snaps. Whoever runs the app is to see them.
	Content []mount.Part
	// Strict bounds its capabilities to these.
	Strict       bool
	Capabilities []string
	// NoNewPrivileges is as in Confinement, and holds for every user.
	NoNewPrivileges bool
}

// AppSandbox returns the sandbox of an app. A link to the current revision of
// another snap is resolved: an app sees what was current at its start.
func AppSandbox(app *snap.App, o Options) (Sandbox, error) {
	c, err := confinementOf(app.Snap, app.Name, o)
	if err != nil || !ownMounts(app.Snap) {
		return Sandbox{}, err
	}
	out := Sandbox{Strict: c.Strict, Mounts: dataParts(app.Snap, o)}
	if c.Strict {
		// that one lets files be opened by number, past every mount; a process
		// with CAP_DAC_OVERRIDE loses nothing else with it
		out.Capabilities = slices.DeleteFunc(slices.Clone(c.Capabilities), func(c string) bool { return c == "CAP_DAC_READ_SEARCH" })
		out.NoNewPrivileges = c.NoNewPrivileges
		out.Mounts = append(out.Mounts, runParts(c.Run, o)...)
	}
	for _, b := range c.Binds {
		p, err := o.contentPart(b)
		if err != nil {
			return Sandbox{}, fmt.Errorf("cannot show a directory to %q: %w", app.Snap.Name+"."+app.Name, err)
		}
		out.Content = append(out.Content, p)
	}
	return out, nil
}

// dataParts are what mountOptions gives a service.
func dataParts(info *snap.Info, o Options) []mount.Part {
	out := []mount.Part{
		{Source: o.Dirs.PrivateTmp(info.Name), Target: o.Dirs.Under("/tmp")},
		{Source: o.Dirs.AllData(), Target: o.Dirs.AllData(), ReadOnly: true},
	}
	for _, dir := range []string{o.Dirs.Data(info.Name, info.Revision), o.Dirs.Common(info.Name)} {
		out = append(out, mount.Part{Source: dir, Target: dir})
	}
	return out
}

// runParts are what runOptions gives a service.
func runParts(more []string, o Options) []mount.Part {
	if slices.Contains(more, "/run") {
		return nil
	}
	out := []mount.Part{{Target: o.Dirs.Under("/run")}}
	for _, p := range []string{"/run/systemd/notify", "/run/systemd/journal", system().Run()} {
		out = append(out, mount.Part{Source: o.Dirs.Under(p), Target: o.Dirs.Under(p), ReadOnly: true, Optional: true})
	}
	shown := slices.Clone(more)
	slices.Sort(shown)
	for _, p := range slices.Compact(shown) {
		out = append(out, mount.Part{Source: o.Dirs.Under(p), Target: o.Dirs.Under(p), Optional: true})
	}
	return out
}

// resolveCurrent replaces the link to a snap's current revision at the
// beginning of a path. It is root's; no other link is followed.
func (o Options) resolveCurrent(path string) (string, error) {
	path = o.Dirs.Under(path)
	for _, all := range []string{o.Dirs.Snaps(), o.Dirs.AllData()} {
		rest, ok := strings.CutPrefix(path, all+"/")
		words := strings.SplitN(rest, "/", 3)
		if !ok || len(words) < 2 || words[1] != "current" {
			continue
		}
		link, err := os.Readlink(filepath.Join(all, words[0], "current"))
		if os.IsNotExist(err) {
			return path, nil // it is left out
		}
		if err != nil {
			return "", err
		}
		return filepath.Join(append([]string{all, words[0], filepath.Base(link)}, words[2:]...)...), nil
	}
	return path, nil
}
