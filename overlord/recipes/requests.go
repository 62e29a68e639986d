// SPDX-License-Identifier: Apache-2.0

// Package recipes strings tasks together: install, refresh, revert, remove,
// enable, disable, and starting and stopping services. It imports all managers
// and none imports it.
package recipes

import (
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
)

// InstallOptions are how a local file is installed.
type InstallOptions struct {
	snapstate.Flags
	Name     string // the file as the user typed it, for messages
	Together bool   // several files: all of them or none
}

// RemoveOptions are how a snap is removed.
type RemoveOptions struct {
	Purge     bool          // save no snapshot of the data
	Terminate bool          // end running apps instead of refusing
	Revision  snap.Revision // only this one, if set
}

// ServicesRequest asks to start, stop or restart services.
type ServicesRequest struct {
	Event   lifecycle.Event // Start, Stop or Restart
	Names   []string        // "snap" or "snap.app"
	Enable  bool            // with Start
	Disable bool            // with Stop
	Reload  bool            // with Restart: use reload-command where there is one
}

// SnapView is one installed revision as the API shows it.
type SnapView struct {
	Record   snapstate.Record
	Rev      snapstate.Revision
	Info     *snap.Info
	Current  bool // and active
	Confined bool
}
