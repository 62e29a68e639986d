// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	"endured/snap"
)

// Outcome is what happened to one service, as observed afterwards.
type Outcome struct {
	App    string `json:"app"`
	Action Action `json:"action"`
	// OldPID and NewPID are main before and after, 0 for none.
	OldPID int `json:"old-pid,omitempty"`
	NewPID int `json:"new-pid,omitempty"`
	// FromRev and ToRev are what it ran from before and after, 0 for nothing.
	FromRev snap.Revision `json:"from,omitempty"`
	ToRev   snap.Revision `json:"to,omitempty"`
}

// Happened derives the outcome of a step from what ran before (the step) and
// what was observed afterwards. The caller says whether the service was
// signalled by the event; that cannot be seen from outside.
func Happened(s Step, after Service, signalled bool) Outcome {
	o := Outcome{App: s.App, OldPID: s.MainPID, FromRev: s.From}
	if after.Running {
		o.NewPID, o.ToRev = after.MainPID, after.Revision
	}
	ran := !s.From.Unset()
	same := ran && after.Running && after.MainPID == s.MainPID && after.InvocationID == s.InvocationID
	switch {
	case !ran && !after.Running:
		o.Action = LeaveDown
	case !ran:
		o.Action = DoStart
	case !after.Running:
		o.Action = DoStop
	case same && signalled:
		o.Action = Signal
	case same:
		o.Action = Keep
	case signalled:
		o.Action = SignalStart
	default:
		o.Action = DoRestart
	}
	return o
}

// Matches compares what happened with the plan (law 8): one outcome for every
// step and none besides. The error is a *MismatchError.
//
// Four things are left open by a plan, and either way matches: a hook inside
// the switch may end a service that was to stay, which is then started anew; a service
// signalled after the switch stays, or exits and is started anew; a service
// with an activator that was left down may have been activated since; and a
// oneshot that was started may be done.
func (p *Plan) Matches(outcomes []Outcome) error {
	var diffs []string
	byApp := map[string]Outcome{}
	for _, o := range outcomes {
		if _, twice := byApp[o.App]; twice {
			diffs = append(diffs, o.App+" has two outcomes")
		}
		if p.Step(o.App) == nil {
			diffs = append(diffs, o.App+" was not planned")
		}
		byApp[o.App] = o
	}
	for _, s := range p.Services {
		o, ok := byApp[s.App]
		if !ok {
			diffs = append(diffs, s.App+" has no outcome")
			continue
		}
		if diff := p.differs(s, o); diff != "" {
			diffs = append(diffs, s.App+": "+diff)
		}
	}
	if len(diffs) > 0 {
		return &MismatchError{Snap: p.Snap, Differences: diffs}
	}
	return nil
}

// differs says how an outcome differs from its step, "" if it does not.
func (p *Plan) differs(s Step, o Outcome) string {
	action, to := s.Action, s.To
	hooked := len(HooksAt(p.Hooks, Inside)) > 0 && s.MainPID != 0
	switch {
	case s.Action == Keep && o.Action == DoRestart && hooked:
		action, to = DoRestart, p.To
	case s.Action == Signal && o.Action == SignalStart:
		action, to = SignalStart, p.To
	case s.Action == LeaveDown && s.mayActivate() && o.Action == DoStart:
		action, to = DoStart, p.To
	case s.Oneshot && s.Action == DoStart && o.Action == LeaveDown,
		s.Oneshot && (s.Action == DoRestart || s.Action == SignalStart) && o.Action == DoStop:
		action, to = o.Action, 0
	}
	switch {
	case o.Action != action:
		return fmt.Sprintf("planned %s, happened %s", s.Action, o.Action)
	case o.OldPID != s.MainPID:
		return fmt.Sprintf("planned for pid %d, happened to pid %d", s.MainPID, o.OldPID)
	case o.FromRev != s.From:
		return fmt.Sprintf("planned from revision %s, happened from %s", s.From, o.FromRev)
	case o.ToRev != to:
		return fmt.Sprintf("planned to run revision %s, runs %s", to, o.ToRev)
	}
	switch action {
	case Keep, Signal:
		if o.NewPID != o.OldPID {
			return fmt.Sprintf("planned %s, but pid %d became %d", action, o.OldPID, o.NewPID)
		}
	case DoRestart, SignalStart:
		if o.NewPID == o.OldPID && o.NewPID != 0 {
			return fmt.Sprintf("planned %s, but pid %d is still there", action, o.OldPID)
		}
	case DoStop, LeaveDown:
		if o.NewPID != 0 {
			return fmt.Sprintf("planned %s, but pid %d runs", action, o.NewPID)
		}
	}
	return ""
}

// mayActivate tells whether something may start the service after the event.
func (s Step) mayActivate() bool {
	return s.Activators == DoStart || s.Activators == Keep && s.Decider != ByOperator
}
