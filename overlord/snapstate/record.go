// SPDX-License-Identifier: Apache-2.0

// Package snapstate knows which revisions of which snaps are installed, which
// one is current and which are in use; it offers the tasks that put a revision
// on the device and take it away.
package snapstate

import (
	"encoding/json"
	"time"

	"endured/snap"
)

// Record is what is kept of one installed snap.
type Record struct {
	Name     string        `json:"name"`
	Sequence []Revision    `json:"sequence"` // oldest first
	Current  snap.Revision `json:"current"`
	Active   bool          `json:"active"` // false: "snap disable"
	// Dangerous, DevMode, … are how the current revision was installed.
	Flags Flags `json:"flags"`
	// Channel is where refreshes come from, such as latest/stable; "" until a
	// revision has come from a store.
	Channel string `json:"channel,omitempty"`
	// Disabled are the services that "snap stop --disable" disabled, kept while
	// their units are gone.
	Disabled []string `json:"disabled,omitempty"`
	// HandStopped are the services that "snap stop" stopped.
	HandStopped []string `json:"hand-stopped,omitempty"`
	// Started remembers, by app, which revision a service's invocation came from.
	Started map[string]Started `json:"started,omitempty"`
	// Seals are those of revisions that were left with processes running from them.
	Seals []Seal `json:"seals,omitempty"`
	// Erased says that the snap's removal has begun to erase data: there is no
	// way back, whatever is left can only be removed.
	Erased bool `json:"erased,omitempty"`
	// Config are the snap's options, a JSON object; they belong to the snap, not
	// to a revision. See Revision.Config.
	Config json.RawMessage `json:"config,omitempty"`
	// Hold keeps it from being refreshed with others, nil if it is not held.
	Hold *Hold `json:"hold,omitempty"`
	// Health is what the snap last said of itself, nil if it never did.
	Health *Health `json:"health,omitempty"`
	// LastLocal is the highest local revision number ever given.
	LastLocal int `json:"last-local,omitempty"`
}

// Revision is one installed revision.
type Revision struct {
	Revision  snap.Revision `json:"revision"`
	YAML      string        `json:"yaml"`               // meta/snap.yaml as it was validated
	Hooks     []string      `json:"hooks,omitempty"`    // those in meta/hooks too; sorted
	SHA256    string        `json:"sha256,omitempty"`   // of a file that was installed
	SHA3      string        `json:"sha3-384,omitempty"` // of one that a store offered
	Size      int64         `json:"size"`               // of the .snap file, in bytes
	Installed time.Time     `json:"installed"`
	Flags     Flags         `json:"flags"`
	// Channel is the one that it came from.
	Channel string `json:"channel,omitempty"`
	// Publisher is the id of who published it, "" if that is not known.
	Publisher string `json:"publisher,omitempty"`
	// Config are the snap's options as they were when another revision became
	// current; a revert brings them back. Empty if that never happened.
	Config json.RawMessage `json:"config,omitempty"`
}

// Health is what a snap says of itself with "snapctl set-health".
type Health struct {
	Revision  snap.Revision `json:"revision"` // that said it
	Status    string        `json:"status"`   // "okay", "waiting", "blocked", "error" or "unknown"
	Message   string        `json:"message,omitempty"`
	Code      string        `json:"code,omitempty"`
	Timestamp time.Time     `json:"timestamp"`
}

// Flags are the ways to install a snap.
type Flags struct {
	Dangerous bool `json:"dangerous,omitempty"`
	DevMode   bool `json:"devmode,omitempty"`
	JailMode  bool `json:"jailmode,omitempty"`
	Classic   bool `json:"classic,omitempty"`
}

// Started says where a running service came from.
type Started struct {
	InvocationID string        `json:"invocation-id"`
	Revision     snap.Revision `json:"revision"`
}
