// SPDX-License-Identifier: Apache-2.0

// Package interfaces knows how plugs and slots are connected, and what a
// connection gives to the programs on its two sides. It is pure: a Repository
// is made from the installed snaps and the connections in the state, and tells
// what they amount to.
package interfaces

import (
	"slices"
	"sort"

	"endured/snap"
	"endured/systemd"
)

// System is the snap that the host's slots belong to. It is not installed.
const System = "snapd"

// IsSystem tells whether a name, which may be empty, means the host.
func IsSystem(name string) bool {
	return name == "" || name == System || name == "core" || name == "system"
}

// AutoPolicy says which connections of an interface are made without being asked for.
type AutoPolicy int

// The policies. Whatever they say, there must be exactly one slot to connect to,
// and a connection that the operator took away stays away.
const (
	// Manual connects nothing.
	Manual AutoPolicy = iota
	// AutoSystem connects to the host's slot.
	AutoSystem
	// AutoPublisher connects snaps of one publisher. Local files have none.
	AutoPublisher
)

// Interface is what all plugs and slots that name it have in common. Functions
// may be nil, and get only what the checks have passed.
type Interface struct {
	Name    string
	Summary string // one line for people
	Host    bool   // the host has a slot of the interface's name
	Auto    AutoPolicy
	// OnlySystem: snaps cannot have slots of it.
	OnlySystem bool

	// CheckPlug and CheckSlot judge attributes.
	CheckPlug func(*snap.Plug) error
	CheckSlot func(*snap.Slot) error
	// Match tells why a plug and a slot cannot be connected.
	Match func(*snap.Plug, *snap.Slot) error
	// NotAuto tells that a plug asks for more than is given without being asked.
	NotAuto func(*snap.Plug) bool

	// ForPlug and ForSlot add what a connection gives to its sides.
	ForPlug func(*Spec, *Connection) error
	ForSlot func(*Spec, *Connection) error
	// Permanent adds what a slot gives to its own snap, connected or not.
	Permanent func(*Spec, *snap.Slot) error
}

// Connection is one that is in force: its two sides are installed.
type Connection struct {
	Ref  ConnRef
	Plug *snap.Plug
	Slot *snap.Slot
	Auto bool // made without being asked for
}

// Spec is what all that is connected gives one app or hook of one revision.
type Spec struct {
	AppArmor     []string         // rule lines
	Seccomp      []string         // system calls or @groups that are allowed besides
	Unit         []systemd.Option // further directives of [Service]
	Mounts       []Mount          // directories of other snaps
	Capabilities []string         // such as CAP_NET_ADMIN
	Delegate     bool             // it manages a cgroup tree of its own
	// Unsealable says, each in a phrase, why its old data can be sealed only partly.
	Unsealable []string
}

// Mount is a directory of another snap that a service sees at a place of its own.
type Mount struct {
	Source, Target string // clean absolute paths without metacharacters
	// Within is at or above the source, and root's: what lies below it is the other
	// snap's to change, and no link there may lead out of it.
	Within   string
	ReadOnly bool
}

// Rules adds lines of AppArmor's language.
func (s *Spec) Rules(lines ...string) { s.AppArmor = append(s.AppArmor, lines...) }

// SealLimits says why old data can be sealed only partly: what interfaces say, and
// otherwise the capabilities that undo a seal.
func (s *Spec) SealLimits() []string {
	if len(s.Unsealable) > 0 {
		return s.Unsealable
	}
	var out []string
	for _, c := range []string{"CAP_SYS_ADMIN", "CAP_LINUX_IMMUTABLE", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO"} {
		if slices.Contains(s.Capabilities, c) {
			out = append(out, "an interface gives it "+c)
		}
	}
	return out
}

// tidy makes the same content the same value.
func (s *Spec) tidy() {
	for _, list := range []*[]string{&s.AppArmor, &s.Seccomp, &s.Capabilities, &s.Unsealable} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	sort.Slice(s.Unit, func(x, y int) bool {
		a, b := s.Unit[x], s.Unit[y]
		return a.Name < b.Name || a.Name == b.Name && a.Value < b.Value
	})
	s.Unit = slices.Compact(s.Unit)
	sort.Slice(s.Mounts, func(x, y int) bool {
		a, b := s.Mounts[x], s.Mounts[y]
		return a.Target < b.Target || a.Target == b.Target && a.Source < b.Source
	})
	s.Mounts = slices.Compact(s.Mounts)
}
