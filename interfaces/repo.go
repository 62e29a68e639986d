// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"endured/snap"
)

// Installed is an active snap.
type Installed struct {
	Info *snap.Info // its current revision
	// Publisher is the id of who published it, "" for a local file.
	Publisher string
}

// Repository is which plugs and slots there are and how they are connected. It
// does not change and may be used by any goroutine.
type Repository struct {
	ifaces map[string]*Interface
	snaps  map[string]Installed
	system *snap.Info
	conns  map[ConnRef]ConnState
}

// New makes a Repository of interfaces, active snaps, and the connections of the
// state by ID. Connections of snaps that are not there lie dormant; an ID that
// is none is an error.
func New(all []Interface, snaps []Installed, conns map[string]ConnState) (*Repository, error) {
	r := &Repository{
		ifaces: map[string]*Interface{}, snaps: map[string]Installed{}, conns: map[ConnRef]ConnState{},
		system: &snap.Info{Name: System, Type: "snapd", Slots: map[string]*snap.Slot{}},
	}
	for n := range all {
		i := &all[n]
		r.ifaces[i.Name] = i
		if i.Host {
			r.system.Slots[i.Name] = &snap.Slot{Snap: r.system, Name: i.Name, Interface: i.Name}
		}
	}
	for _, s := range snaps {
		if !IsSystem(s.Info.Name) {
			r.snaps[s.Info.Name] = s
		}
	}
	for id, c := range conns {
		ref, err := ParseConnRef(id)
		if err != nil {
			return nil, err
		}
		r.conns[ref] = c
	}
	return r, nil
}

// With returns a Repository in which the snap's revision is the given one.
func (r *Repository) With(s Installed) *Repository {
	out := *r
	out.snaps = maps.Clone(r.snaps)
	out.snaps[s.Info.Name] = s
	return &out
}

// Interfaces returns all interfaces by name.
func (r *Repository) Interfaces() []*Interface {
	var out []*Interface
	for _, name := range slices.Sorted(maps.Keys(r.ifaces)) {
		out = append(out, r.ifaces[name])
	}
	return out
}

// info returns the description of an active snap, or of the host.
func (r *Repository) info(name string) *snap.Info {
	if IsSystem(name) {
		return r.system
	}
	return r.snaps[name].Info
}

// plug returns the plug if it can be used.
func (r *Repository) plug(e End) *snap.Plug {
	if i := r.info(e.Snap); i != nil && i.Plugs[e.Name] != nil && r.ifaces[i.Plugs[e.Name].Interface] != nil {
		return i.Plugs[e.Name]
	}
	return nil
}

func (r *Repository) slot(e End) *snap.Slot {
	i := r.info(e.Snap)
	if i == nil || i.Slots[e.Name] == nil {
		return nil
	}
	s := i.Slots[e.Name]
	if f := r.ifaces[s.Interface]; f == nil || f.OnlySystem && i != r.system {
		return nil
	}
	return s
}

// Plugs returns the plugs of all snaps that can be used, by snap, then name.
func (r *Repository) Plugs() []*snap.Plug {
	var out []*snap.Plug
	for _, name := range slices.Sorted(maps.Keys(r.snaps)) {
		for _, p := range slices.Sorted(maps.Keys(r.snaps[name].Info.Plugs)) {
			if plug := r.plug(End{name, p}); plug != nil {
				out = append(out, plug)
			}
		}
	}
	return out
}

// Slots is Plugs for slots; those of the host are among them.
func (r *Repository) Slots() []*snap.Slot {
	var out []*snap.Slot
	for _, name := range slices.Sorted(maps.Keys(r.snaps)) {
		out = r.slotsOf(out, r.snaps[name].Info)
	}
	return r.slotsOf(out, r.system)
}

func (r *Repository) slotsOf(out []*snap.Slot, i *snap.Info) []*snap.Slot {
	for _, s := range slices.Sorted(maps.Keys(i.Slots)) {
		if slot := r.slot(End{i.Name, s}); slot != nil {
			out = append(out, slot)
		}
	}
	return out
}

// Connections returns those in force, by plug, then slot.
func (r *Repository) Connections() []*Connection { return r.connections(false) }

// Undesired returns those that would be in force had the operator not taken them away.
func (r *Repository) Undesired() []*Connection { return r.connections(true) }

func (r *Repository) connections(undesired bool) []*Connection {
	var out []*Connection
	for ref, c := range r.conns {
		if c.Undesired != undesired {
			continue
		}
		plug, slot := r.plug(ref.Plug), r.slot(ref.Slot)
		if plug == nil || slot == nil || r.match(plug, slot) != nil {
			continue
		}
		out = append(out, &Connection{Ref: ref, Plug: plug, Slot: slot, Auto: c.Auto})
	}
	slices.SortFunc(out, func(a, b *Connection) int {
		if c := a.Ref.Plug.compare(b.Ref.Plug); c != 0 {
			return c
		}
		return a.Ref.Slot.compare(b.Ref.Slot)
	})
	return out
}

// match tells why two sides cannot be connected.
func (r *Repository) match(p *snap.Plug, s *snap.Slot) error {
	i := r.ifaces[p.Interface]
	if p.Interface != s.Interface {
		return fmt.Errorf("cannot connect %s (%q interface) to %s (%q interface)", p, p.Interface, s, s.Interface)
	}
	if err := i.checkPlug(p); err != nil {
		return err
	}
	if err := i.checkSlot(s); err != nil {
		return err
	}
	if i.Match != nil {
		if err := i.Match(p, s); err != nil {
			return fmt.Errorf("cannot connect %s to %s: %w", p, s, err)
		}
	}
	return nil
}

func (i *Interface) checkPlug(p *snap.Plug) error {
	if i.CheckPlug == nil {
		return nil
	}
	if err := i.CheckPlug(p); err != nil {
		return fmt.Errorf("cannot use plug %q of snap %q: %w", p.Name, p.Snap.Name, err)
	}
	return nil
}

func (i *Interface) checkSlot(s *snap.Slot) error {
	if i.CheckSlot == nil {
		return nil
	}
	if err := i.CheckSlot(s); err != nil {
		return fmt.Errorf("cannot use slot %q of snap %q: %w", s.Name, s.Snap.Name, err)
	}
	return nil
}

// Check refuses a snap whose plugs or slots no interface could use as they are.
// Of interfaces that are not known nothing is said.
func Check(all []Interface, info *snap.Info) error {
	for n := range all {
		i := &all[n]
		for _, name := range slices.Sorted(maps.Keys(info.Plugs)) {
			if p := info.Plugs[name]; p.Interface == i.Name {
				if err := i.checkPlug(p); err != nil {
					return err
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(info.Slots)) {
			s := info.Slots[name]
			if s.Interface != i.Name {
				continue
			}
			if i.OnlySystem {
				return fmt.Errorf("cannot use slot %q of snap %q: only the system has slots of interface %q", s.Name, info.Name, i.Name)
			}
			if err := i.checkSlot(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// Unknown lists plugs and slots of a snap whose interface is not known, as "plug
// NAME (INTERFACE)".
func (r *Repository) Unknown(info *snap.Info) []string {
	var out []string
	for _, p := range info.Plugs {
		if r.ifaces[p.Interface] == nil {
			out = append(out, "plug "+p.Name+" ("+p.Interface+")")
		}
	}
	for _, s := range info.Slots {
		if r.ifaces[s.Interface] == nil {
			out = append(out, "slot "+s.Name+" ("+s.Interface+")")
		}
	}
	slices.Sort(out)
	return out
}

// Connected lists the snaps that a snap is connected with, without the host.
func (r *Repository) Connected(name string) []string {
	var out []string
	for _, c := range r.Connections() {
		other := ""
		switch name {
		case c.Plug.Snap.Name:
			other = c.Slot.Snap.Name
		case c.Slot.Snap.Name:
			other = c.Plug.Snap.Name
		}
		if other != "" && other != name && !IsSystem(other) {
			out = append(out, other)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// SpecFor returns what is connected to an app, or to "hook.NAME", of a revision,
// which need not be the current one: its plugs are connected by their names.
func (r *Repository) SpecFor(info *snap.Info, appOrHook string) (*Spec, error) {
	r = r.With(Installed{Info: info, Publisher: r.snaps[info.Name].Publisher})
	spec := &Spec{}
	for _, s := range info.SlotsOf(appOrHook) {
		i := r.ifaces[s.Interface]
		if i == nil || i.Permanent == nil || r.slot(End{info.Name, s.Name}) == nil || i.checkSlot(s) != nil {
			continue
		}
		if err := i.Permanent(spec, s); err != nil {
			return nil, fmt.Errorf("cannot tell what slot %s gives: %w", s, err)
		}
	}
	for _, c := range r.Connections() {
		i := r.ifaces[c.Plug.Interface]
		if c.Plug.Snap == info && c.Plug.Serves(appOrHook) && i.ForPlug != nil {
			if err := i.ForPlug(spec, c); err != nil {
				return nil, fmt.Errorf("cannot tell what connection %q gives: %w", c.Ref.ID(), err)
			}
		}
		if c.Slot.Snap == info && c.Slot.Serves(appOrHook) && i.ForSlot != nil {
			if err := i.ForSlot(spec, c); err != nil {
				return nil, fmt.Errorf("cannot tell what connection %q gives: %w", c.Ref.ID(), err)
			}
		}
	}
	spec.tidy()
	return spec, nil
}

// Describe names ends for people: the host's slots are ":SLOT".
func (e End) Describe() string {
	if IsSystem(e.Snap) {
		return ":" + e.Name
	}
	return strings.TrimSpace(e.String())
}
