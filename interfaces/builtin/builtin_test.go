// SPDX-License-Identifier: Apache-2.0

package builtin_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"endured/interfaces"
	"endured/interfaces/apparmor"
	"endured/interfaces/builtin"
	"endured/snap"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	consumerYAML = `name: consumer
version: 1
apps: {app: {command: x, plugs: [it]}, other: {command: x, plugs: []}}
hooks: {install: {plugs: [it]}}
plugs: {it: {interface: %s%s}}
`
	providerYAML = `name: provider
version: 1
apps: {svc: {command: x, daemon: simple, slots: [it]}}
slots: {it: {interface: %s%s}}
`
)

// attributes of the plug and of the slot, for interfaces that have some.
func attributes(name string) (plug, slot string) {
	switch name {
	case "content":
		return ", content: files, target: $SNAP_COMMON/files", ", content: files, read: [/share, $SNAP_DATA/state], write: [$SNAP_COMMON/spool, $SNAP_DATA/in]"
	case "dbus":
		return ", bus: system, name: org.example.A-b", ", bus: system, name: org.example.A-b"
	}
	return "", ""
}

func parse(t *testing.T, yaml string, rev snap.Revision) *snap.Info {
	t.Helper()
	i, err := snap.Parse([]byte(yaml))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, yaml)
	}
	i.Revision = rev
	return i
}

// pair makes a consumer and, unless the host has the slot, a provider, connected.
func pair(t *testing.T, i interfaces.Interface, plug, slot string) (*interfaces.Repository, *snap.Info, *snap.Info) {
	t.Helper()
	c := parse(t, fmt.Sprintf(consumerYAML, i.Name, plug), 3)
	snaps := []interfaces.Installed{{Info: c}}
	to := "snapd:" + i.Name
	var p *snap.Info
	if !i.Host {
		p = parse(t, fmt.Sprintf(providerYAML, i.Name, slot), 8)
		snaps = append(snaps, interfaces.Installed{Info: p})
		to = "provider:it"
	}
	r, err := interfaces.New(builtin.All(), snaps, map[string]interfaces.ConnState{"consumer:it " + to: {Interface: i.Name}})
	if err != nil {
		t.Fatal(err)
	}
	return r, c, p
}

func TestGolden(t *testing.T) {
	t.Parallel()
	last := ""
	for _, i := range builtin.All() {
		if i.Name <= last || i.Summary == "" {
			t.Errorf("%q after %q, summary %q", i.Name, last, i.Summary)
		}
		last = i.Name
		t.Run(i.Name, func(t *testing.T) {
			t.Parallel()
			plug, slot := attributes(i.Name)
			r, c, p := pair(t, i, plug, slot)
			if len(r.Connections()) != 1 {
				t.Fatal("they are not connected")
			}
			got := describe(t, r, c, "app")
			if hook := describe(t, r, c, "hook.install"); strings.TrimPrefix(hook, "consumer.hook.install") != strings.TrimPrefix(got, "consumer.app") {
				t.Errorf("the hook gets something else:\n%s", hook)
			}
			if none := describe(t, r, c, "other"); none != "consumer.other\n" {
				t.Errorf("an app without the plug gets %s", none)
			}
			if p != nil {
				got += describe(t, r, p, "svc")
			}
			path := filepath.Join("testdata", i.Name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || string(want) != got {
				t.Errorf("%s differs (%v); go test -update rewrites it; got:\n%s", path, err, got)
			}
		})
	}
}

// describe writes what somebody gets, after the check that all of it can
// become part of a profile.
func describe(t *testing.T, r *interfaces.Repository, i *snap.Info, who string) string {
	t.Helper()
	s, err := r.SpecFor(i, who)
	if err != nil {
		t.Fatal(err)
	}
	set := apparmor.Set{Snap: i.Name, Revision: i.Revision, Mode: apparmor.Enforce,
		Profiles: []apparmor.Profile{{App: "x", Rules: s.AppArmor, Capabilities: s.Capabilities}}}
	if _, err := set.Texts(); err != nil {
		t.Error(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, i.Name+"."+who)
	for _, l := range s.AppArmor {
		fmt.Fprintln(&b, "  apparmor    "+l)
	}
	for _, l := range s.Capabilities {
		fmt.Fprintln(&b, "  capability  "+l)
	}
	for _, l := range s.Seccomp {
		fmt.Fprintln(&b, "  seccomp     "+l)
	}
	for _, o := range s.Unit {
		fmt.Fprintln(&b, "  unit        "+o.Name+"="+o.Value)
	}
	for _, m := range s.Mounts {
		fmt.Fprintf(&b, "  mount       %s at %s read-only=%t\n", m.Source, m.Target, m.ReadOnly)
	}
	if s.Delegate {
		fmt.Fprintln(&b, "  delegate")
	}
	for _, l := range s.Unsealable {
		fmt.Fprintln(&b, "  unsealable  "+l)
	}
	return b.String()
}

func TestHostileAttributes(t *testing.T) {
	t.Parallel()
	byName := map[string]interfaces.Interface{}
	for _, i := range builtin.All() {
		byName[i.Name] = i
	}
	for _, c := range []struct{ iface, plug, slot string }{
		{"dbus", ", bus: system, name: org.freedesktop.DBus.x", ", bus: system, name: org.freedesktop.DBus.x"},
		{"dbus", ", bus: 'a b', name: org.x", ", bus: 'a b', name: org.x"},
		{"dbus", ", name: org.x.a", ", name: org.x.a"},
		{"dbus", ", bus: system, name: org.x.a", ", bus: system, name: org.x.b"},
		{"dbus", ", bus: system, name: org.x.a", ", bus: session, name: org.x.a"},
		{"content", ", target: $SNAP/../x", ", read: [/]"},
		{"content", ", target: '$SNAP/a,b'", ", read: [/]"},
		{"content", ", target: '$SNAP/a b'", ", read: [/]"},
		{"content", ", target: '$SNAP/{a,b}'", ", read: [/]"},
		{"content", ", target: '$SNAP/a*'", ", read: [/]"},
		{"content", ", target: '$SNAP/a:b'", ", read: [/]"},
		{"content", ", target: '$SNAP/%n'", ", read: [/]"},
		{"content", ", target: $SNAP_COMMON", ", read: [/]"},
		{"content", ", target: $SNAP/x", ", read: [../../etc]"},
		{"content", ", target: $SNAP/x", ", read: [$SNAP_DATA/../common]"},
		{"content", ", target: $SNAP/x", ", read: [$HOME/x]"},
		{"content", ", target: $SNAP/x", ", write: [/x]"},
		{"content", ", target: $SNAP/x", ", write: ['$SNAP_DATA/a\"']"},
		{"content", ", target: $SNAP/x", ", read: [/a/x, /b/x]"},
		{"content", ", target: $SNAP/x, content: a", ", read: [/a], content: b"},
		{"content", ", target: $SNAP/x", ""},
		{"content", "", ", read: [/a]"},
		{"home", ", read: everything", ""},
	} {
		i := byName[c.iface]
		r, info, _ := pair(t, i, c.plug, c.slot)
		plug := interfaces.End{Snap: "consumer", Name: "it"}
		slot := interfaces.End{Snap: "provider", Name: "it"}
		if i.Host {
			slot = interfaces.End{Name: i.Name}
		}
		if _, _, err := r.Connectable(plug, slot); err == nil {
			t.Errorf("%s: plug %s and slot %s were connected", c.iface, c.plug, c.slot)
		}
		// what stands in the state all the same gives nothing
		if s, err := r.SpecFor(info, "app"); err != nil || len(s.AppArmor)+len(s.Mounts) > 0 {
			t.Errorf("%s: %s, %s gives %v (%v)", c.iface, c.plug, c.slot, s, err)
		}
	}
}

func TestSnapsHaveNoHostSlots(t *testing.T) {
	t.Parallel()
	i := parse(t, "name: evil\nversion: 1\nslots: {network: }\n", 1)
	if err := interfaces.Check(builtin.All(), i); err == nil || !strings.Contains(err.Error(), "only the system has slots") {
		t.Error(err)
	}
}
