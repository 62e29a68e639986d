// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

const persistent = "/etc/systemd/system"

// change is one link that was made or removed.
type change struct{ Type, File, Destination string }

// installs maps the directories that a unit's [Install] section names to it.
func (u *unit) installs() []string {
	var out []string
	for key, suffix := range map[string]string{"WantedBy": ".wants", "RequiredBy": ".requires"} {
		for _, v := range u.conf["Install."+key] {
			for _, target := range strings.Fields(v) {
				out = append(out, filepath.Join(persistent, target+suffix))
			}
		}
	}
	slices.Sort(out)
	return out
}

// onDisk is a unit as its files are now, whatever is loaded.
func (f *Fake) onDisk(name string) *unit {
	u := &unit{name: name, props: map[string]dbus.Variant{}}
	f.read(u)
	return u
}

func (f *Fake) fileState(u *unit) string {
	disk := f.onDisk(u.name)
	switch {
	case u.transient:
		return "transient"
	case disk.load == "masked":
		return "masked"
	case disk.fragment == "":
		return ""
	case len(f.links(u.name)) > 0:
		return "enabled"
	case len(disk.installs()) > 0:
		return "disabled"
	}
	return "static"
}

// links are the enablement links of a unit.
func (f *Fake) links(name string) []string {
	var out []string
	for _, suffix := range []string{"wants", "requires"} {
		found, _ := filepath.Glob(f.root + persistent + "/*." + suffix + "/" + name)
		out = append(out, found...)
	}
	return out
}

func (o *object) EnableUnitFiles(names []string, runtime, force bool) (bool, []change, *dbus.Error) {
	leave, err := o.enter("EnableUnitFiles", strings.Join(names, " "))
	if err != nil {
		return false, nil, err
	}
	defer leave()
	changes, carries := []change{}, false
	for _, name := range names {
		u := o.f.onDisk(name)
		switch u.load {
		case "not-found":
			return false, nil, failure("NoSuchUnit", "Unit file %s does not exist.", name)
		case "masked":
			return false, nil, failure("UnitMasked", "Unit file %s is masked.", name)
		}
		for _, dir := range u.installs() {
			carries = true
			link := filepath.Join(dir, name)
			if to, err := os.Readlink(o.f.root + link); err == nil && to == u.fragment {
				continue
			}
			os.Remove(o.f.root + link)
			if err := os.MkdirAll(o.f.root+dir, 0o755); err != nil {
				return false, nil, dbus.MakeFailedError(err)
			}
			if err := os.Symlink(u.fragment, o.f.root+link); err != nil {
				return false, nil, dbus.MakeFailedError(err)
			}
			changes = append(changes, change{"symlink", link, u.fragment})
		}
	}
	return carries, changes, nil
}

func (o *object) DisableUnitFiles(names []string, runtime bool) ([]change, *dbus.Error) {
	leave, err := o.enter("DisableUnitFiles", strings.Join(names, " "))
	if err != nil {
		return nil, err
	}
	defer leave()
	changes := []change{}
	for _, name := range names {
		for _, link := range o.f.links(name) {
			if err := os.Remove(link); err != nil {
				return nil, dbus.MakeFailedError(err)
			}
			os.Remove(filepath.Dir(link)) // stays if others are in it
			changes = append(changes, change{"unlink", strings.TrimPrefix(link, o.f.root), ""})
		}
	}
	return changes, nil
}
