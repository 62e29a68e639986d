// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"endured/interfaces/mount"
	"endured/snap"
	"endured/systemd"
)

// What a unit is shown of other snaps is opened by no rule of PID 1's: that one
// follows links, and below its own directories the other snap can put a link to
// anywhere. The unit says in X-Content what it wants to be shown, and mounts
// what stands ready for it in /run/snapd-content/UNIT; a unit of its own that is
// ordered before it has that made from what is there at each start, and refuses
// a link that leads out of the other snap.

// contentKey is followed by NUMBER:ACCESS:WITHIN:SOURCE.
const contentKey = "X-Content"

// ContentUnit is the name of the unit that makes ready what a unit is shown.
func ContentUnit(unit string) string {
	return "snapd-content@" + strings.TrimSuffix(unit, ".service") + ".service"
}

// contentOptions mount what stands ready. What does not is left out.
func contentOptions(unit string, binds []Bind) ([]systemd.Option, error) {
	var opts []systemd.Option
	ready := system().Content(strings.TrimSuffix(unit, ".service"))
	for n, b := range binds {
		for _, p := range []string{b.Source, b.Within, b.Target} {
			// a colon separates the two, and white space one pair from the next
			if full, err := expandPath(p, nil); err != nil || full != p || strings.ContainsAny(p, ": \t\"'\\%") {
				return nil, fmt.Errorf("%q is not a clean absolute path without spaces, colons or quotes", p)
			}
		}
		name, access := "BindPaths", "rw"
		if b.ReadOnly {
			name, access = "BindReadOnlyPaths", "ro"
		}
		number := strconv.Itoa(n)
		opts = append(opts,
			opt(contentKey, strings.Join([]string{number, access, b.Within, b.Source}, ":")),
			opt(name, "-"+filepath.Join(ready, number)+":"+b.Target))
	}
	return opts, nil
}

// contentOrder has content made ready before the unit starts. That it fails
// keeps no service down, as little as content that is not there.
func contentOrder(unit string, confined []systemd.Option) []systemd.Option {
	if !has(confined, contentKey) {
		return nil
	}
	return []systemd.Option{opt("Wants", ContentUnit(unit)), opt("After", ContentUnit(unit))}
}

func has(opts []systemd.Option, name string) bool {
	return slices.ContainsFunc(opts, func(o systemd.Option) bool { return o.Name == name })
}

// contentPart is what a mount is made of. The link to a current revision is
// resolved: what is shown is what was current at the start.
func (o Options) contentPart(b Bind) (mount.Part, error) {
	p := mount.Part{Target: o.Dirs.Under(b.Target), ReadOnly: b.ReadOnly, Optional: true}
	var err error
	if p.Source, err = o.resolveCurrent(b.Source); err == nil {
		p.Within, err = o.resolveCurrent(b.Within)
	}
	if rest, data := strings.CutPrefix(p.Within, o.Dirs.AllData()+"/"); data {
		name, text, _ := strings.Cut(rest, "/")
		if rev, err := snap.ParseRevision(text); err == nil {
			p.Closed = o.Dirs.SharedSealed(name, rev)
		}
	}
	return p, err
}

// ReadyContent makes ready what a unit, named without its ".service", is to be
// shown now, and takes away what else stood there. What is in an image, which
// does not change, becomes a link to it: a mount would keep the image in use.
// The error says what is refused; the rest is ready.
func ReadyContent(unit string, o Options) error {
	binds, err := wantedContent(unit, o)
	if err == nil {
		err = os.MkdirAll(o.Dirs.Run(), 0o755)
	}
	if err != nil {
		return err
	}
	var parts []mount.Ready
	var errs []error
	for n, b := range binds {
		p, err := o.contentPart(b)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r := mount.Ready{Part: p, Linked: below(p.Within, o.Dirs.Snaps())}
		r.Target = filepath.Join(o.Dirs.Content(unit), strconv.Itoa(n))
		parts = append(parts, r)
	}
	return errors.Join(append(errs, mount.MakeReady(o.Dirs.AllContent(), unit, parts))...)
}

// SweepContent takes away what stands ready for units that want nothing any more.
func SweepContent(o Options) error {
	entries, err := os.ReadDir(o.Dirs.AllContent())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list what is shown to services: %w", err)
	}
	var errs []error
	for _, e := range entries {
		binds, err := wantedContent(e.Name(), o)
		if err == nil && len(binds) == 0 {
			err = mount.MakeReady(o.Dirs.AllContent(), e.Name(), nil)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func below(path, dir string) bool { return strings.HasPrefix(path, dir+"/") }

// wantedContent reads what a unit says that it is to be shown; nothing if there
// is no such unit.
func wantedContent(unit string, o Options) ([]Bind, error) {
	if unit != filepath.Base(unit) {
		return nil, fmt.Errorf("cannot show anything to %q: that is no name of a unit without its type", unit)
	}
	var data []byte
	err := error(fs.ErrNotExist)
	for _, dir := range []string{o.Dirs.Units(), o.Dirs.RunUnits()} {
		if errors.Is(err, fs.ErrNotExist) {
			data, err = os.ReadFile(filepath.Join(dir, unit+".service"))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what to show to %s.service: %w", unit, err)
	}
	var out []Bind
	for line := range strings.Lines(string(data)) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), contentKey+"=")
		if !ok {
			continue
		}
		words := strings.Split(text, ":")
		if len(words) != 4 || words[0] != strconv.Itoa(len(out)) || words[1] != "ro" && words[1] != "rw" {
			return nil, fmt.Errorf("cannot read what to show to %s.service: %s=%s is not NUMBER:ro|rw:WITHIN:SOURCE", unit, contentKey, text)
		}
		out = append(out, Bind{ReadOnly: words[1] == "ro", Within: words[2], Source: words[3]})
	}
	return out, nil
}
