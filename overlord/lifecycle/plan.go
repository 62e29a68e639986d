// SPDX-License-Identifier: Apache-2.0

// Package lifecycle decides what an event does to running processes. It is
// pure: two descriptions of a snap, what was observed running, the operator's
// overrides and the event go in; a Plan comes out. The handlers that carry a
// plan out, --dry-run, snap explain and the table in docs/refresh-mode.md all
// come from here, and no other package knows what a mode means.
package lifecycle

import (
	"time"

	"endured/snap"
)

// Event is what happens to a snap.
type Event string

// The events. The first three are refresh-like: only they honour refresh-mode
// (law 2). LocalInstall is a local file over an installed snap.
const (
	Refresh      Event = "refresh"
	LocalInstall Event = "local-install"
	Revert       Event = "revert"
	Install      Event = "install"
	Enable       Event = "enable"
	Start        Event = "start"
	Stop         Event = "stop"
	Restart      Event = "restart"
	Disable      Event = "disable"
	Remove       Event = "remove"
	Shutdown     Event = "shutdown"
	Configure    Event = "configure" // options are set: nothing is decided about services
)

// Word is the event as a snap's programs are told it: a local install over an
// installed snap is a refresh to them.
func (e Event) Word() string {
	if e == LocalInstall {
		return string(Refresh)
	}
	return string(e)
}

// RefreshLike tells whether the event honours refresh-mode.
func (e Event) RefreshLike() bool { return e == Refresh || e == LocalInstall || e == Revert }

// Action is what is done to a service or a process group.
type Action string

// The actions.
const (
	Keep        Action = "keep"         // processes stay, untouched, on their revision
	DoRestart   Action = "restart"      // stopped, then the (new) revision is started
	DoStart     Action = "start"        // nothing runs; the (new) revision is started
	DoStop      Action = "stop"         // stopped and not started again
	LeaveDown   Action = "leave"        // nothing runs and nothing is started
	Signal      Action = "signal"       // notify class: signalled after the switch, stays
	SignalStart Action = "signal-start" // stop class: main is signalled, the new revision starts after it
)

// Observed is what is running of a snap at the moment of planning.
type Observed struct {
	// Services by app name; an app that is missing here has no unit, and counts
	// as new. A service that is recorded as disabled while its unit is gone
	// (enable, revert) is put here with Enabled false.
	Services map[string]Service
	// Apps are the processes of non-daemon apps.
	Apps []Process
}

// Service is the observed state of one service.
type Service struct {
	Running      bool          // a main or control process exists, or the unit is active (oneshot)
	Revision     snap.Revision // that the running processes were started from; 0 if nothing runs
	MainPID      int
	InvocationID string
	Enabled      bool // its unit, or an activator of it, is enabled
	HandStopped  bool // by "snap stop", recorded
	Delegated    bool // it made sub-cgroups of its own
	Workers      int  // processes besides main
	Generations  []Generation
}

// Generation is a scope with survivors of an earlier revision of a service.
type Generation struct {
	Unit     string        `json:"unit"`
	Revision snap.Revision `json:"revision"`
	PIDs     []int         `json:"pids,omitempty"`
}

// Process is one observed process.
type Process struct {
	PID      int           `json:"pid"`
	App      string        `json:"app"`
	Revision snap.Revision `json:"revision"`
}

// Override is the operator's refresh-mode.<snap>.<app> by app name.
type Override map[string]snap.RefreshMode

// Input is everything a decision depends on.
type Input struct {
	Event Event
	// Old is the revision that is current before the event, nil if none is.
	Old *snap.Info
	// New is the revision that is current after it, nil if none will be. For
	// start, stop, restart and shutdown it is Old.
	New *snap.Info
	// Started holds the Info of every other revision that a process was started
	// from, where it is still known.
	Started  map[snap.Revision]*snap.Info
	Observed Observed
	Override Override
	// Only limits start, stop and restart to these apps; empty is all services.
	Only []string
	// StopTimeoutMax is the operator's ceiling, 0 for none.
	StopTimeoutMax time.Duration
	// SealLimits says, by app, why what stays of it can be sealed only partly.
	SealLimits map[string][]string
	// Terminate ends running apps on remove and disable instead of refusing.
	Terminate bool
}

// Decider says whose word a step follows.
type Decider string

// The deciders.
const (
	BySnap     Decider = "snap"     // the revision the process was started from
	ByOperator Decider = "operator" // an override, or "snap stop" before
	ByEvent    Decider = "event"    // the event leaves no choice
	ByNew      Decider = "new"      // the new revision lacks, gains or changes the app
)

// Plan is what an event will do, in the order of carrying it out.
type Plan struct {
	Event    Event         `json:"event"`
	Snap     string        `json:"snap"`
	From     snap.Revision `json:"from"` // 0 if no revision was current
	To       snap.Revision `json:"to"`   // 0 if none will be
	Services []Step        `json:"services"`
	// Generations are the scopes of earlier refreshes.
	Generations []GenerationStep `json:"generations,omitempty"`
	// Apps are the running non-daemon processes and what becomes of them.
	Apps []AppStep `json:"apps,omitempty"`
	// Hooks are run besides, in this order.
	Hooks []HookStep `json:"hooks,omitempty"`
	// Seal is nil if nothing stays from the revision that is left.
	Seal *SealStep `json:"seal,omitempty"`
}

// Step is what happens to one service.
type Step struct {
	App     string        `json:"app"`
	Unit    string        `json:"unit"`
	Mode    string        `json:"mode"` // the word that decided, "restart" when none was given
	Action  Action        `json:"action"`
	Decider Decider       `json:"decider"`
	Why     string        `json:"why"` // one clause, no full stop: "refresh-mode is endure"
	From    snap.Revision `json:"from,omitempty"`
	To      snap.Revision `json:"to,omitempty"` // that runs afterwards; 0 if nothing does

	// Signal is sent to main, or to all processes when All; "" leaves it to the
	// unit's own stop. AfterRelease tells the notify class from the stop class.
	Signal       string `json:"signal,omitempty"`
	All          bool   `json:"all,omitempty"`
	AfterRelease bool   `json:"after-release,omitempty"`
	// Survivors tells that processes other than main are moved to a scope first;
	// with Delegated they stay where they are and main is stopped alone.
	Survivors bool `json:"survivors,omitempty"`
	Delegated bool `json:"delegated,omitempty"`
	// SendSIGKILL and StopTimeout bound the stop, and are zero where nothing is
	// stopped: false with a StopTimeout means that the event is given up at the
	// bound. The timeout is after clamping; Clamped tells that the operator's
	// ceiling was applied.
	SendSIGKILL bool          `json:"send-sigkill"`
	StopTimeout time.Duration `json:"stop-timeout,omitempty"`
	Clamped     bool          `json:"clamped,omitempty"`
	// Enable tells that the service, or a new activator of it, gets enabled.
	Enable bool `json:"enable,omitempty"`
	// Activators is what happens to the service's sockets, timers and D-Bus
	// names: "" when it has none, Keep (as they are), DoStart or DoStop.
	Activators Action `json:"activators,omitempty"`
	// Oneshot tells that a start ends by itself, leaving nothing running.
	Oneshot bool `json:"oneshot,omitempty"`
	// Undo is what a failure after quiesce costs this service: "" or "restart".
	Undo string `json:"undo,omitempty"`

	// What was running when the plan was made.
	MainPID      int    `json:"main-pid,omitempty"`
	InvocationID string `json:"invocation-id,omitempty"`
	Workers      int    `json:"workers,omitempty"`
}

// GenerationStep is what happens to a scope.
type GenerationStep struct {
	Generation
	App     string  `json:"app"`
	Action  Action  `json:"action"` // Keep, DoStop or Signal
	Signal  string  `json:"signal,omitempty"`
	Decider Decider `json:"decider"`
	Why     string  `json:"why"`
	// StopTimeout is when SIGKILL follows; a scope is always swept in the end.
	StopTimeout time.Duration `json:"stop-timeout,omitempty"`
	Clamped     bool          `json:"clamped,omitempty"`
}

// AppStep is what happens to a running app process.
type AppStep struct {
	Process
	Action Action `json:"action"` // Keep or DoStop
	Why    string `json:"why"`
}
