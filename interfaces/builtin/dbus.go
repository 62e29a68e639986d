// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"fmt"
	"regexp"
	"strings"

	"endured/interfaces"
	"endured/snap"
)

// dbus lets the slot's snap own a well-known name, and the plug's snap speak to
// it. That nobody else owns the name, and the bus's own policy for it, is seen
// to where units are written, see wrappers.CheckBusNames.
func dbus() interfaces.Interface {
	return interfaces.Interface{
		Name: "dbus", Summary: "has a name of its own on D-Bus, or speaks to another snap's",
		CheckPlug: func(p *snap.Plug) error { _, _, err := busName(p.Attrs); return err },
		CheckSlot: func(s *snap.Slot) error { _, _, err := busName(s.Attrs); return err },
		Match: func(p *snap.Plug, s *snap.Slot) error {
			pb, pn, perr := busName(p.Attrs)
			sb, sn, serr := busName(s.Attrs)
			if perr != nil || serr != nil || pb != sb || pn != sn {
				return fmt.Errorf("the plug is for %q on the %s bus, the slot for %q on the %s bus", pn, pb, sn, sb)
			}
			return nil
		},
		Permanent: func(s *interfaces.Spec, slot *snap.Slot) error {
			bus, name, err := busName(slot.Attrs)
			if err != nil {
				return err
			}
			s.Rules(busSocket(bus)...)
			s.Rules(
				"dbus (bind) bus="+bus+" name="+name+",",
				"dbus (send) bus="+bus+" path=/org/freedesktop/DBus interface=org.freedesktop.DBus "+
					"member={RequestName,ReleaseName,GetConnectionCredentials,GetConnectionUnixUser,GetConnectionUnixProcessID} peer=(label=unconfined),",
				// whoever the host trusts may ask
				"dbus (receive) bus="+bus+" path="+busPath(name)+" peer=(label=unconfined),",
				"dbus (receive) bus="+bus+" path=/ interface=org.freedesktop.DBus.{Introspectable,ObjectManager,Peer} peer=(label=unconfined),",
				"dbus (send) bus="+bus+" path="+busPath(name)+" peer=(label=unconfined),",
			)
			return nil
		},
		ForSlot: func(s *interfaces.Spec, c *interfaces.Connection) error {
			bus, name, err := busName(c.Slot.Attrs)
			if err != nil {
				return err
			}
			peer := "peer=(label=" + labels(c.Plug.Snap) + "),"
			s.Rules(
				"dbus (receive) bus="+bus+" path="+busPath(name)+" "+peer,
				"dbus (receive) bus="+bus+" path=/ interface=org.freedesktop.DBus.{Introspectable,ObjectManager,Peer} "+peer,
				"dbus (send) bus="+bus+" path="+busPath(name)+" "+peer,
			)
			return nil
		},
		ForPlug: func(s *interfaces.Spec, c *interfaces.Connection) error {
			bus, name, err := busName(c.Plug.Attrs)
			if err != nil {
				return err
			}
			label := labels(c.Slot.Snap)
			s.Rules(busSocket(bus)...)
			s.Rules(
				"dbus (send) bus="+bus+" peer=(name="+name+", label="+label+"),",
				"dbus (receive) bus="+bus+" path="+busPath(name)+" peer=(label="+label+"),",
			)
			return nil
		},
	}
}

var busNamePattern = regexp.MustCompile(`^[A-Za-z_-][A-Za-z0-9_-]*(\.[A-Za-z_-][A-Za-z0-9_-]*)+$`)

func busName(a snap.Attrs) (bus, name string, err error) {
	if err := noAttrs(a, "bus", "name"); err != nil {
		return "", "", err
	}
	if a["bus"] == nil {
		return "", "", fmt.Errorf("attribute \"bus\" is missing; use system or session")
	}
	if bus, err = oneOf(a, "bus", "system", "session"); err != nil {
		return "", "", err
	}
	if name, err = a.String("name"); err != nil {
		return "", "", err
	}
	if len(name) > 255 || !busNamePattern.MatchString(name) {
		return "", "", fmt.Errorf("attribute \"name\" is %q; use a D-Bus name such as org.example.Daemon", name)
	}
	if name == "org.freedesktop.DBus" || strings.HasPrefix(name, "org.freedesktop.DBus.") {
		return "", "", fmt.Errorf("attribute \"name\" is %q, which belongs to the bus itself", name)
	}
	return bus, name, nil
}

// busPath is where the objects of a name are by custom. A dash cannot be part of a path.
func busPath(name string) string {
	return "/" + strings.ReplaceAll(strings.ReplaceAll(name, ".", "/"), "-", "_") + "{,/**}"
}

// busSocket is what it takes to get onto a bus.
func busSocket(bus string) []string {
	rules := []string{
		"dbus (send) bus=" + bus + " path=/org/freedesktop/DBus interface=org.freedesktop.DBus " +
			"member={Hello,AddMatch,RemoveMatch,GetNameOwner,NameHasOwner,ListNames,StartServiceByName} peer=(label=unconfined),",
		"dbus (receive) bus=" + bus + " path=/org/freedesktop/DBus interface=org.freedesktop.DBus peer=(label=unconfined),",
	}
	if bus == "system" {
		return append(rules, "/{,var/}run/dbus/system_bus_socket rw,")
	}
	return append(rules, "owner /run/user/[0-9]*/bus rw,", `unix (connect, send, receive) type=stream peer=(addr="@/tmp/dbus-*"),`)
}

// labels matches what the programs of a snap carry, in every revision.
func labels(i *snap.Info) string {
	if interfaces.IsSystem(i.Name) {
		return "unconfined"
	}
	return "snap." + i.Name + ".*"
}
