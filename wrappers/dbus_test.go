// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"endured/dirs"
	"endured/snap"
	"endured/wrappers"
)

func talker(snapName string, names ...string) *snap.Info {
	info := &snap.Info{Name: snapName, Version: "1", Revision: 1, Apps: map[string]*snap.App{}}
	info.Apps["svc"] = &snap.App{Snap: info, Name: "svc", Command: "bin/svc", Daemon: "simple", SendSIGKILL: true,
		ActivatesOn: names, ActivationNames: names, BusNames: names}
	return info
}

// What the host or another snap has cannot be had.
func TestBusNamesAreFree(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := wrappers.Options{Dirs: dirs.New(root)}
	for path, text := range map[string]string{
		"/usr/share/dbus-1/system-services/org.host.Activated.service": "[D-BUS Service]\n",
		"/usr/share/dbus-1/system.d/host.conf":                         "<busconfig><policy user=\"x\"><allow own=\"org.host.Owned\"/>\n<allow own_prefix = 'org.host.prefix'/></policy></busconfig>",
		"/etc/dbus-1/system.d/host.conf":                               "<busconfig><!-- <allow own=\"org.comment\"/> --><deny own=\"*\"/></busconfig>",
	} {
		if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, info := range []*snap.Info{talker("other", "org.other.One"), talker("one", "org.one.Mine")} {
		set, err := wrappers.Units(info, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wrappers.Write(set.Files, o); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"org.one.Mine":                "",
		"org.free":                    "",
		"org.comment":                 "",
		"org.host.Owned2":             "",
		"org.host.prefixed":           "",
		"org.host.Activated":          "belongs to the host",
		"org.host.Owned":              "belongs to whom /usr/share/dbus-1/system.d/host.conf names",
		"org.host.prefix.A":           "belongs to whom /usr/share/dbus-1/system.d/host.conf names",
		"org.host.prefix":             "belongs to whom /usr/share/dbus-1/system.d/host.conf names",
		"org.other.One":               "belongs to another snap",
		"org.freedesktop.DBus":        "belongs to the bus itself",
		"org.freedesktop.DBus.Locals": "belongs to the bus itself",
	} {
		err := wrappers.CheckBusNames(talker("one", name), o)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No name can say more than a name in a file of the bus.
func TestBusNamesAreOnlyNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "org", "org.x\nExec=/bin/evil", `org.x"/><allow own="org.y`, "org.x y", "org..x", "../org.x", "org.x/y", "org.1x"} {
		info := talker("one", name)
		if _, err := wrappers.Units(info, testOptions()); err == nil {
			t.Errorf("%q starts a service", name)
		}
		info.Apps["svc"].ActivatesOn, info.Apps["svc"].ActivationNames = nil, nil
		if _, err := wrappers.Units(info, testOptions()); err == nil {
			t.Errorf("%q may be owned", name)
		}
	}
}
