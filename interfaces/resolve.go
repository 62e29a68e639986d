// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"endured/snap"
)

// Lookup returns a connection's state and whether there is any.
func (r *Repository) Lookup(ref ConnRef) (ConnState, bool) {
	c, ok := r.conns[ref]
	return c, ok
}

// findPlug returns the plug or says why there is none.
func (r *Repository) findPlug(e End) (*snap.Plug, error) {
	i := r.info(e.Snap)
	if i == nil {
		return nil, &NoSnapError{e.Snap}
	}
	if p := r.plug(e); p != nil {
		return p, nil
	}
	err := &NoPlugError{Snap: i.Name, Name: e.Name, What: "plug"}
	if p := i.Plugs[e.Name]; p != nil {
		err.Interface = p.Interface
	}
	return nil, err
}

func (r *Repository) findSlot(e End) (*snap.Slot, error) {
	i := r.info(e.Snap)
	if i == nil {
		return nil, &NoSnapError{e.Snap}
	}
	if s := r.slot(e); s != nil {
		return s, nil
	}
	err := &NoPlugError{Snap: i.Name, Name: e.Name, What: "slot"}
	if s := i.Slots[e.Name]; s != nil && r.ifaces[s.Interface] == nil {
		err.Interface = s.Interface
	}
	return nil, err
}

// Connectable finds what to connect. A slot without a snap is the host's; one
// without a name is the only one of the plug's interface. The two match.
func (r *Repository) Connectable(plug, slot End) (ConnRef, string, error) {
	if plug.Snap == "" || plug.Name == "" {
		return ConnRef{}, "", fmt.Errorf("cannot connect: the plug must be named as SNAP:PLUG")
	}
	p, err := r.findPlug(plug)
	if err != nil {
		return ConnRef{}, "", err
	}
	if IsSystem(slot.Snap) {
		slot.Snap = System
	}
	if slot.Name == "" {
		if slot.Name, err = r.onlySlot(slot.Snap, p.Interface); err != nil {
			return ConnRef{}, "", err
		}
	}
	s, err := r.findSlot(slot)
	if err != nil {
		return ConnRef{}, "", err
	}
	return ConnRef{plug, slot}, p.Interface, r.match(p, s)
}

// onlySlot returns the name of the one slot of an interface that a snap has.
func (r *Repository) onlySlot(name, iface string) (string, error) {
	i := r.info(name)
	if i == nil {
		return "", &NoSnapError{name}
	}
	var found []string
	for _, s := range r.slotsOf(nil, i) {
		if s.Interface == iface {
			found = append(found, s.Name)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("snap %q has no %q interface slots", i.Name, iface)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("snap %q has several slots of interface %q (%s): name one", i.Name, iface, strings.Join(found, ", "))
}

// Disconnectable finds what to disconnect: the connection of the two ends, or,
// where only one end is named, all of that plug or slot. With forget, what was
// disconnected before counts, too. The error is an UnchangedError if there is nothing.
func (r *Repository) Disconnectable(plug, slot End, forget bool) ([]ConnRef, error) {
	if plug.Name != "" && slot.Name != "" {
		if IsSystem(slot.Snap) {
			slot.Snap = System
		}
		ref := ConnRef{plug, slot}
		c, ok := r.conns[ref]
		if ok && (forget || !c.Undesired) {
			return []ConnRef{ref}, nil
		}
		if _, err := r.findPlug(plug); err != nil {
			return nil, err
		}
		if _, err := r.findSlot(slot); err != nil {
			return nil, err
		}
		what := "it is not connected"
		if forget {
			what = "it was not connected"
		}
		return nil, fmt.Errorf("cannot disconnect %s from %s, %s", plug, slot, what)
	}
	// clients name a lone end on whichever side
	end := slot
	if end.Name == "" {
		end = plug
	}
	if end.Name == "" {
		return nil, fmt.Errorf("cannot disconnect: neither a plug nor a slot is named")
	}
	if IsSystem(end.Snap) {
		end.Snap = System
	}
	i := r.info(end.Snap)
	if i == nil {
		return nil, &NoSnapError{end.Snap}
	}
	if i.Plugs[end.Name] == nil && i.Slots[end.Name] == nil {
		return nil, &NoPlugError{Snap: end.Snap, Name: end.Name, What: "plug or slot"}
	}
	var out []ConnRef
	for ref, c := range r.conns {
		if (ref.Plug == end || ref.Slot == end) && (forget || !c.Undesired) {
			out = append(out, ref)
		}
	}
	if len(out) == 0 {
		return nil, &UnchangedError{"nothing to do"}
	}
	slices.SortFunc(out, func(a, b ConnRef) int { return strings.Compare(a.ID(), b.ID()) })
	return out, nil
}

// Auto finds the connections to make without being asked for, for the plugs and
// slots of a snap that have no history: neither a connection nor one that was
// taken away. The result is by ID.
func (r *Repository) Auto(name string) map[string]ConnState {
	out := map[string]ConnState{}
	i := r.info(name)
	if i == nil || i == r.system {
		return out
	}
	for _, p := range slices.Sorted(maps.Keys(i.Plugs)) {
		r.autoPlug(r.plug(End{name, p}), "", out)
	}
	if len(i.Slots) > 0 {
		for _, p := range r.Plugs() {
			if p.Snap.Name != name {
				r.autoPlug(p, name, out)
			}
		}
	}
	return out
}

// autoPlug adds the plug's connection if there is exactly one to make, and if it
// is to a slot of the snap only, unless that is "".
func (r *Repository) autoPlug(p *snap.Plug, only string, out map[string]ConnState) {
	if p == nil {
		return
	}
	i := r.ifaces[p.Interface]
	if i.Auto == Manual || i.NotAuto != nil && i.NotAuto(p) {
		return
	}
	end := End{p.Snap.Name, p.Name}
	for ref, c := range r.conns {
		// a connection to what is gone does not stand in the way; one that was taken away does
		if ref.Plug == end && (c.Undesired || r.slot(ref.Slot) != nil) {
			return
		}
	}
	var found []*snap.Slot
	for _, s := range r.Slots() {
		if s.Interface != p.Interface || s.Snap == p.Snap || r.match(p, s) != nil {
			continue
		}
		host := s.Snap == r.system
		pub := r.snaps[p.Snap.Name].Publisher
		if i.Auto == AutoSystem && host || i.Auto == AutoPublisher && !host && pub != "" && pub == r.snaps[s.Snap.Name].Publisher {
			found = append(found, s)
		}
	}
	if len(found) != 1 || only != "" && found[0].Snap.Name != only {
		return
	}
	s := found[0]
	out[ConnRef{end, End{s.Snap.Name, s.Name}}.ID()] = ConnState{Interface: i.Name, Auto: true, PlugStatic: p.Attrs, SlotStatic: s.Attrs}
}

// StateOf is what the state keeps of a connection that was asked for.
func (r *Repository) StateOf(ref ConnRef) ConnState {
	p, s := r.plug(ref.Plug), r.slot(ref.Slot)
	if p == nil || s == nil {
		return ConnState{}
	}
	return ConnState{Interface: p.Interface, PlugStatic: p.Attrs, SlotStatic: s.Attrs}
}

// MountsOf returns what a connection, made or not, shows to the plug's snap.
func (r *Repository) MountsOf(ref ConnRef) ([]Mount, *snap.Info, error) {
	p, s := r.plug(ref.Plug), r.slot(ref.Slot)
	if p == nil || s == nil {
		return nil, nil, nil
	}
	spec := &Spec{}
	if give := r.ifaces[p.Interface].ForPlug; give != nil {
		if err := give(spec, &Connection{Ref: ref, Plug: p, Slot: s}); err != nil {
			return nil, nil, err
		}
	}
	return spec.Mounts, p.Snap, nil
}
