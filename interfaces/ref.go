// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"fmt"
	"strings"
)

// End is a plug or a slot by name.
type End struct{ Snap, Name string }

// String returns "SNAP:NAME".
func (e End) String() string { return e.Snap + ":" + e.Name }

func (e End) compare(o End) int {
	if c := strings.Compare(e.Snap, o.Snap); c != 0 {
		return c
	}
	return strings.Compare(e.Name, o.Name)
}

// ConnRef names a connection.
type ConnRef struct{ Plug, Slot End }

// ID is what a connection is called in the state: "SNAP:PLUG SNAP:SLOT".
func (r ConnRef) ID() string { return r.Plug.String() + " " + r.Slot.String() }

// ParseConnRef reads an ID.
func ParseConnRef(id string) (ConnRef, error) {
	plug, slot, ok := strings.Cut(id, " ")
	ps, pn, ok1 := strings.Cut(plug, ":")
	ss, sn, ok2 := strings.Cut(slot, ":")
	if !ok || !ok1 || !ok2 || ps == "" || pn == "" || ss == "" || sn == "" || strings.ContainsAny(pn+sn, ": ") {
		return ConnRef{}, fmt.Errorf("cannot read connection %q: want \"SNAP:PLUG SNAP:SLOT\"", id)
	}
	return ConnRef{End{ps, pn}, End{ss, sn}}, nil
}

// ConnState is what the state keeps of a connection, in snapd's shape, under its ID.
type ConnState struct {
	Interface string `json:"interface,omitempty"`
	Auto      bool   `json:"auto,omitempty"`
	// Undesired: the operator took away what was connected automatically.
	Undesired  bool           `json:"undesired,omitempty"`
	PlugStatic map[string]any `json:"plug-static,omitempty"`
	SlotStatic map[string]any `json:"slot-static,omitempty"`
}

// NoPlugError says that a snap has no such plug, slot, or neither.
type NoPlugError struct {
	Snap, Name string
	What       string // "plug", "slot" or "plug or slot"
	Interface  string // it has one, of this interface, which is not known
}

func (e *NoPlugError) Error() string {
	if e.Interface != "" {
		return fmt.Sprintf("cannot use %s %q of snap %q: interface %q is not known", e.What, e.Name, e.Snap, e.Interface)
	}
	return fmt.Sprintf("snap %q has no %s named %q", e.Snap, e.What, e.Name)
}

// NoSnapError says that a snap is not installed, or is disabled.
type NoSnapError struct{ Snap string }

func (e *NoSnapError) Error() string {
	return fmt.Sprintf("snap %q is not installed or disabled", e.Snap)
}

// UnchangedError says that nothing is connected that could be disconnected.
type UnchangedError struct{ What string }

func (e *UnchangedError) Error() string { return e.What }
