// SPDX-License-Identifier: Apache-2.0

package client

import "time"

// Plans (additive) is the answer to a dry run.
type Plans struct {
	Plans []Plan `json:"plans"`
}

// Plan (additive) is what an event will do to running processes. It mirrors
// the daemon's own plan; revisions are "unset" or "" where there is none.
type Plan struct {
	Event       string           `json:"event"` // "local-install", "revert", "remove", …
	Snap        string           `json:"snap"`
	From        string           `json:"from"`
	To          string           `json:"to"`
	Services    []Step           `json:"services"`
	Generations []GenerationStep `json:"generations,omitempty"`
	Apps        []AppStep        `json:"apps,omitempty"`
	Hooks       []HookStep       `json:"hooks,omitempty"`
	// Seal is nil if nothing stays from the revision that is left.
	Seal *SealStep `json:"seal,omitempty"`
}

// SealStep says that what stays from a revision loses write access to its data.
type SealStep struct {
	Revision string `json:"revision"`
	Why      string `json:"why,omitempty"` // it does not, because of this
	// Limits says why some of what stays is kept off only partly.
	Limits []SealLimit `json:"limits,omitempty"`
}

// SealLimit is about one app or service that stays.
type SealLimit struct {
	App string `json:"app"`
	Why string `json:"why"`
}

// HookStep is a hook that is run.
type HookStep struct {
	Hook     string `json:"hook"`
	Revision string `json:"revision"`
	When     string `json:"when"`              // before, inside (the switch) or after
	Ignored  bool   `json:"ignored,omitempty"` // its failure changes nothing
}

// Step is what happens to one service.
type Step struct {
	App     string `json:"app"`
	Unit    string `json:"unit"`
	Mode    string `json:"mode"`    // the refresh-mode that decided
	Action  string `json:"action"`  // keep, restart, start, stop, leave, signal, signal-start
	Decider string `json:"decider"` // snap, operator, event, new
	Why     string `json:"why"`
	From    string `json:"from,omitempty"` // revision that runs
	To      string `json:"to,omitempty"`   // revision that runs afterwards

	Signal       string        `json:"signal,omitempty"`
	All          bool          `json:"all,omitempty"`
	AfterRelease bool          `json:"after-release,omitempty"`
	Survivors    bool          `json:"survivors,omitempty"`
	Delegated    bool          `json:"delegated,omitempty"`
	SendSIGKILL  bool          `json:"send-sigkill"`
	StopTimeout  time.Duration `json:"stop-timeout,omitempty"` // ns on the wire
	Clamped      bool          `json:"clamped,omitempty"`
	Enable       bool          `json:"enable,omitempty"`
	Activators   string        `json:"activators,omitempty"` // "", keep, start or stop
	Oneshot      bool          `json:"oneshot,omitempty"`
	Undo         string        `json:"undo,omitempty"`

	MainPID      int    `json:"main-pid,omitempty"`
	InvocationID string `json:"invocation-id,omitempty"`
	Workers      int    `json:"workers,omitempty"`
}

// GenerationStep is what happens to the processes that an earlier refresh left.
type GenerationStep struct {
	Unit        string        `json:"unit"`
	Revision    string        `json:"revision"`
	PIDs        []int         `json:"pids,omitempty"`
	App         string        `json:"app"`
	Action      string        `json:"action"`
	Signal      string        `json:"signal,omitempty"`
	Decider     string        `json:"decider"`
	Why         string        `json:"why"`
	StopTimeout time.Duration `json:"stop-timeout,omitempty"` // ns on the wire
	Clamped     bool          `json:"clamped,omitempty"`
}

// AppStep is what happens to a running process of an app that is no service.
type AppStep struct {
	PID      int    `json:"pid"`
	App      string `json:"app"`
	Revision string `json:"revision"`
	Action   string `json:"action"`
	Why      string `json:"why"`
}
