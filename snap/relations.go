// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"slices"
	"strings"
)

// checkOrder checks before: and after:.
func (d *draft) checkOrder() {
	byName := map[string]*appDraft{}
	for _, a := range d.apps {
		byName[a.Name] = a
	}
	sound := true
	for _, a := range d.apps {
		for _, list := range []struct {
			key   string
			names []string
		}{{"before", a.Before}, {"after", a.After}} {
			for _, name := range list.names {
				if why := cannotOrder(a, byName[name]); why != "" {
					d.bad(join(a.path, list.key), "%s %s", quote(name), why)
					sound = false
				}
			}
		}
	}
	if !sound {
		return
	}
	if cycle := d.findCycle(); cycle != nil {
		d.bad("apps", "before and after form a cycle: %s", strings.Join(cycle, " after "))
	}
}

func cannotOrder(a, other *appDraft) string {
	switch {
	case other == nil:
		return "is not an app of this snap"
	case a == other:
		return "is the service itself"
	case !other.IsService():
		return "is not a service"
	case (a.scope == "user") != (other.scope == "user"):
		return "has a different daemon-scope"
	}
	return ""
}

// findCycle returns the names of services that wait for each other, the first
// one again at the end.
func (d *draft) findCycle() []string {
	earlier := map[string][]string{}
	for _, a := range d.apps {
		earlier[a.Name] = append(earlier[a.Name], a.After...)
		for _, b := range a.Before {
			earlier[b] = append(earlier[b], a.Name)
		}
	}
	const visiting, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		switch state[name] {
		case done:
			return nil
		case visiting:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[name] = visiting
		path = append(path, name)
		for _, n := range earlier[name] {
			if c := visit(n); c != nil {
				return c
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, a := range d.apps {
		if c := visit(a.Name); c != nil {
			return c
		}
	}
	return nil
}

// checkActivation checks activates-on: and what D-Bus services need.
func (d *draft) checkActivation() {
	by, byName := map[string]string{}, map[string]string{}
	for _, a := range d.apps {
		key := join(a.path, "activates-on")
		bus := "system"
		if a.scope == "user" {
			bus = "session"
		}
		for _, name := range a.ActivatesOn {
			slot := d.slots[name]
			onBus, busName := busOf(slot)
			switch {
			case slot == nil:
				d.bad(key, "%s is not a slot of this snap", quote(name))
			case slot.Interface != "dbus":
				d.bad(key, "the slot %s is of interface %s; only dbus can activate", quote(name), quote(slot.Interface))
			case onBus != bus:
				d.bad(key, "the slot %s is on bus %s; this service needs one on bus %q", quote(name), quote(onBus), bus)
			case len(busName) > 255 || !busNamePattern.MatchString(busName):
				d.bad(join(join("slots", name), "name"), "%s is not a D-Bus name such as org.example.Daemon", quote(busName))
			case by[name] != "":
				d.bad(key, "the slot %s activates %s already", quote(name), quote(by[name]))
			case byName[busName] != "":
				d.bad(key, "the name %s activates %s already", quote(busName), quote(byName[busName]))
			default:
				by[name] = a.Name
				byName[busName] = a.Name
				a.ActivationNames = append(a.ActivationNames, busName)
				if a.Daemon == "dbus" && !slices.Contains(a.set, "bus-name") {
					a.BusName = busName
				}
			}
		}
		if a.Daemon == "dbus" && a.BusName == "" && len(a.ActivatesOn) == 0 {
			d.bad(join(a.path, "bus-name"), "is missing; \"daemon: dbus\" needs it, or activates-on")
		}
		d.findBusNames(a)
	}
}

// busOf returns the attributes bus: and name: of a dbus slot.
func busOf(slot *Plug) (bus, name string) {
	if slot == nil {
		return "", ""
	}
	bus, _ = slot.Attrs["bus"].(string)
	name, _ = slot.Attrs["name"].(string)
	return bus, name
}

// findBusNames lists what a service may own on the system bus: its bus-name,
// and the names of its slots.
func (d *draft) findBusNames(a *appDraft) {
	if !a.IsService() || a.scope == "user" {
		return
	}
	if a.Daemon == "dbus" && a.BusName != "" {
		a.BusNames = append(a.BusNames, a.BusName)
	}
	for _, name := range slices.Concat(a.Slots, a.ActivatesOn) {
		slot := d.slots[name]
		onBus, busName := busOf(slot)
		if slot == nil || slot.Interface != "dbus" || onBus != "system" {
			continue
		}
		if len(busName) > 255 || !busNamePattern.MatchString(busName) {
			key := join(join("slots", name), "name")
			if !d.complained(key) {
				d.bad(key, "%s is not a D-Bus name such as org.example.Daemon", quote(busName))
			}
			continue
		}
		a.BusNames = append(a.BusNames, busName)
	}
	slices.Sort(a.BusNames)
	a.BusNames = slices.Compact(a.BusNames)
}
