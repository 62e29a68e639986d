// SPDX-License-Identifier: Apache-2.0

// Package servicestate observes the services of snaps, and starts and stops
// them when an operator asks.
package servicestate

import (
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
)

// View is a service as the API shows it.
type View struct {
	Snap, App  string
	Daemon     string        // the daemon type
	Mode       string        // refresh-mode as declared, "restart" if not
	Revision   snap.Revision // that runs, 0 if nothing does
	Current    snap.Revision
	MainPID    int
	Enabled    bool
	Active     bool
	Activators []Activator
	// Generations are the scopes with what earlier refreshes left running.
	Generations []Generation
	// Seal is how far the data of Revision is sealed, where that is not the
	// current one and its processes stayed; SealWhy says what it lacks.
	Seal    snapstate.SealState
	SealWhy []string
	// SealLimits says why the data could not be sealed in full if a refresh left
	// processes running. It is found out where services are asked for by name.
	SealLimits []string
}

// Generation is a scope with what an earlier refresh left of a service. Seal is
// how far the data of its revision is sealed, SealWhy what it lacks.
type Generation struct {
	lifecycle.Generation
	Seal    snapstate.SealState
	SealWhy []string
}

// Activator is a unit that starts a service.
type Activator struct {
	Name    string // the socket's name, or the unit's
	Type    string // "socket", "timer" or "dbus"
	Enabled bool
	Active  bool
}
