// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"endured/snap"
)

// busName is what may stand in the files of this package without being
// escaped: no character of it means anything to a unit file or to XML.
var busName = regexp.MustCompile(`^[A-Za-z_-][A-Za-z0-9_-]*(\.[A-Za-z_-][A-Za-z0-9_-]*)+$`)

// BusServices returns the files that make the system bus ask systemd for the
// service as soon as somebody speaks to one of its names.
func BusServices(app *snap.App) ([]File, error) {
	if len(app.ActivatesOn) > 0 && len(app.ActivationNames) == 0 {
		return nil, errors.New("activates-on: it has no D-Bus name")
	}
	var out []File
	for _, name := range app.ActivationNames {
		if !busName.MatchString(name) {
			return nil, fmt.Errorf("activates-on: %q is not a D-Bus name", name)
		}
		out = append(out, File{
			Path: busServicePath(name), Mode: 0o644,
			// the bus runs Exec= only if it cannot ask systemd
			Data: []byte("[D-BUS Service]\nName=" + name + "\nExec=/bin/false\nUser=root\nSystemdService=" + app.Unit() +
				"\n" + busOwner(app.Snap.Name)),
		})
	}
	return out, nil
}

func busServicePath(name string) string {
	return filepath.Join(system().BusServices(), name+".service")
}

func busOwner(snapName string) string { return "X-Snap=" + snapName + "\n" }

// busPolicy returns the file that lets the services of a snap, which run as
// root, own their names, and everybody speak to them. It is nil if there are none.
func busPolicy(info *snap.Info) (*File, error) {
	names := busNames(info)
	if len(names) == 0 {
		return nil, nil
	}
	var own, send string
	for _, n := range names {
		if !busName.MatchString(n) {
			return nil, fmt.Errorf("%q is not a D-Bus name", n)
		}
		own += "    <allow own=\"" + n + "\"/>\n"
		send += "    <allow send_destination=\"" + n + "\"/>\n"
	}
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <policy user="root">
` + own + `  </policy>
  <policy context="default">
` + send + `  </policy>
</busconfig>
`
	return &File{Path: system().BusPolicy(info.Name), Data: []byte(text), Mode: 0o644}, nil
}

func busNames(info *snap.Info) (names []string) {
	for _, a := range info.Services() {
		names = append(names, a.BusNames...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// BusFile tells whether the system bus reads the file at path.
func BusFile(path string) bool {
	dir := filepath.Dir(path)
	return dir == system().BusServices() || dir == filepath.Dir(system().BusPolicy("x"))
}

// The host's own descriptions of services and policies.
var (
	hostBusServices = []string{"/etc/dbus-1/system-services", "/run/dbus-1/system-services", "/usr/local/share/dbus-1/system-services",
		"/usr/share/dbus-1/system-services", "/lib/dbus-1/system-services"}
	hostBusPolicies = []string{"/etc/dbus-1/system.d", "/etc/dbus-1", "/usr/share/dbus-1/system.d"}

	xmlComment = regexp.MustCompile(`(?s)<!--.*?-->`)
	xmlOwn     = regexp.MustCompile(`\bown(_prefix)?\s*=\s*["']\s*([^"'\s]+)\s*["']`)
)

// CheckBusNames tells whether a D-Bus name that a snap asks for belongs to the
// host or to another snap: a snap must not answer for them.
func CheckBusNames(info *snap.Info, o Options) error {
	for _, name := range busNames(info) {
		by, err := busNameOwner(name, info.Name, o)
		if err != nil {
			return fmt.Errorf("cannot see who owns the D-Bus name %q: %w", name, err)
		}
		if by != "" {
			return fmt.Errorf("cannot let snap %q own the D-Bus name %q: it belongs to %s", info.Name, name, by)
		}
	}
	return nil
}

// busNameOwner says to whom but the snap a name belongs, "" if to nobody.
func busNameOwner(name, snapName string, o Options) (string, error) {
	if name == "org.freedesktop.DBus" || strings.HasPrefix(name, "org.freedesktop.DBus.") {
		return "the bus itself", nil
	}
	for _, dir := range hostBusServices {
		path := filepath.Join(dir, name+".service")
		if _, err := os.Lstat(o.Dirs.Under(path)); err == nil {
			return "the host (" + path + ")", nil
		}
	}
	own, err := os.ReadFile(o.Dirs.Under(busServicePath(name)))
	if err == nil && !strings.Contains(string(own), busOwner(snapName)) {
		return "another snap", nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, dir := range hostBusPolicies {
		paths, err := filepath.Glob(o.Dirs.Under(dir) + "/*.conf")
		if err != nil {
			return "", err
		}
		for _, path := range paths {
			if path == o.Dirs.Under(system().BusPolicy(snapName)) {
				continue
			}
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return "", err
			}
			for _, m := range xmlOwn.FindAllStringSubmatch(xmlComment.ReplaceAllString(string(text), ""), -1) {
				if m[2] == name || m[1] != "" && strings.HasPrefix(name, m[2]+".") {
					return "whom " + filepath.Join(dir, filepath.Base(path)) + " names", nil
				}
			}
		}
	}
	return "", nil
}
