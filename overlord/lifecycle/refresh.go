// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	"endured/snap"
)

// refreshStep decides about a service under a refresh-like event.
func (d *decision) refreshStep(app string) (Step, error) {
	s, obs := d.begin(app)
	old, next := service(d.in.Old, app), service(d.in.New, app)
	declared, _ := effective(first(old, next))
	s.Mode = string(declared)
	if next == nil {
		return d.vanished(s, obs, old), nil
	}
	s.Activators = activators(next, Keep)
	_, known := d.in.Observed.Services[app]
	switch {
	case !known:
		// No unit: new here, whatever the old revision says.
		return d.fresh(s, next, ByNew, "a new service"), nil
	case obs.Enabled && gains(old, next):
		s.Enable = true
		if obs.Running || !obs.HandStopped {
			s.Activators = activators(next, DoStart)
		}
	}
	if obs.Running {
		s, err := d.refreshRunning(s, obs)
		return stays(s, next), err
	}
	return d.refreshIdle(s, obs, old, next), nil
}

// stays takes back the start of a new socket where the service goes on: systemd
// refuses to open a socket whose service is active. It is enabled all the same.
func stays(s Step, next *snap.App) Step {
	if (s.Action == Keep || s.Action == Signal) && s.Activators == DoStart && len(next.Sockets) > 0 {
		s.Activators = Keep
	}
	return s
}

// vanished decides about a service that the new revision has not.
func (d *decision) vanished(s Step, obs Service, old *snap.App) Step {
	why := "the new revision has no such service"
	if d.in.New.Apps[s.App] != nil {
		why = "the new revision makes it an app"
	}
	s.Activators = activators(old, DoStop)
	if !obs.Running {
		return s.decided(LeaveDown, ByNew, why)
	}
	s = d.stopped(s, obs, true)
	s.Undo = "restart"
	return s.decided(DoStop, ByNew, why)
}

// refreshRunning follows the mode of a running service.
func (d *decision) refreshRunning(s Step, obs Service) (Step, error) {
	w, err := d.wordFor(s.App, s.From)
	if err != nil {
		return Step{}, err
	}
	s.Mode = string(w.mode)
	if d.in.Event == Revert && s.From == d.plan.To && s.From != d.plan.From && w.decider != ByOperator {
		s.To = s.From
		return s.decided(Keep, ByEvent, "it runs from the revision that becomes current"), nil
	}
	if w.class == classEndure {
		s.To = s.From
		return s.decided(Keep, w.decider, w.why), nil
	}
	// A finished oneshot has no process, and a main may be unknown.
	nobody := obs.MainPID == 0 && (!w.mode.All() || obs.Workers == 0)
	if w.class == classNotify && !nobody {
		s.To = s.From
		s.Signal, s.All, s.AfterRelease = w.mode.Signal(), w.mode.All(), true
		if !s.All {
			s = survivors(s, obs)
		}
		return s.decided(Signal, w.decider, w.why), nil
	}
	s.To, s.Undo = d.plan.To, "restart"
	s = d.stopped(s, obs, false)
	if w.class == classRestart {
		if s.Oneshot && obs.MainPID != 0 {
			w.why += ", and its work begins anew"
		}
		return s.decided(DoRestart, w.decider, w.why), nil
	}
	s.Signal, s.All, s.Survivors, s.Delegated = w.mode.Signal(), w.mode.All(), false, false
	if !s.All {
		s = survivors(s, obs)
	}
	if nobody {
		s.Signal, s.All = "", false
		return s.decided(DoRestart, w.decider, w.why+", but no main process is known"), nil
	}
	return s.decided(SignalStart, w.decider, w.why), nil
}

// refreshIdle decides about a known service that does not run.
func (d *decision) refreshIdle(s Step, obs Service, old, next *snap.App) Step {
	switch {
	case obs.HandStopped:
		return s.decided(LeaveDown, ByOperator, "stopped by hand")
	case !obs.Enabled:
		return s.decided(LeaveDown, ByOperator, "disabled")
	case next.Activated():
		return s.decided(LeaveDown, ByNew, activatedBy(next))
	}
	s.To = d.plan.To
	switch {
	case old != nil && old.Activated():
		return s.decided(DoStart, ByNew, "nothing activates it any more")
	case next.Daemon == "oneshot":
		return s.decided(DoStart, ByEvent, "a oneshot runs again")
	}
	return s.decided(DoStart, ByEvent, "enabled, but not running")
}

// fresh decides about a service that has no unit yet.
func (d *decision) fresh(s Step, next *snap.App, by Decider, why string) Step {
	if next.InstallMode == "disable" {
		return s.decided(LeaveDown, by, "install-mode is disable")
	}
	s.Enable = true
	s.Activators = activators(next, DoStart)
	if next.Activated() {
		return s.decided(LeaveDown, by, activatedBy(next))
	}
	s.To = d.plan.To
	return s.decided(DoStart, by, why)
}

// generations decides about the survivors of earlier refreshes of a service.
func (d *decision) generations(app string) error {
	if !d.in.Event.RefreshLike() && !d.stops() {
		return nil
	}
	for _, g := range d.in.Observed.Services[app].Generations {
		step, err := d.generation(app, g)
		if err != nil {
			return err
		}
		d.plan.Generations = append(d.plan.Generations, step)
	}
	return nil
}

// stops tells whether the event stops services for another reason than a refresh.
func (d *decision) stops() bool {
	switch d.in.Event {
	case Stop, Restart, Disable, Remove, Shutdown:
		return true
	}
	return false
}

func (d *decision) generation(app string, g Generation) (GenerationStep, error) {
	s := GenerationStep{Generation: g, App: app, Action: Keep}
	a, _ := d.source(app, g.Revision)
	if !d.in.Event.RefreshLike() {
		if e := d.in.Event; (e == Stop || e == Restart) && a != nil && !a.StopMode.All() {
			s.Decider, s.Why = BySnap, fmt.Sprintf("stop-mode is %s in revision %s", a.StopMode, g.Revision)
			return s, nil
		}
		s.Action, s.Decider, s.Why = DoStop, ByEvent, reason(d.in.Event)
		return d.swept(s, a), nil
	}
	if service(d.in.New, app) == nil {
		s.Action, s.Decider, s.Why = DoStop, ByNew, "the new revision has no such service"
		return d.swept(s, a), nil
	}
	w, err := d.wordFor(app, g.Revision)
	if err != nil {
		return s, err
	}
	s.Decider, s.Why = w.decider, w.why
	if w.mode.All() {
		s.Action, s.Signal = Signal, w.mode.Signal()
	}
	return s, nil
}

// swept fills in how a scope is stopped.
func (d *decision) swept(s GenerationStep, a *snap.App) GenerationStep {
	s.StopTimeout, s.Clamped = d.bound(a)
	if a != nil {
		s.Signal = a.StopMode.Signal()
	}
	return s
}

// activators gives the action if the app has sockets, a timer or D-Bus names.
func activators(a *snap.App, action Action) Action {
	if a == nil || !a.Activated() {
		return ""
	}
	return action
}

// gains tells whether the new revision has a unit to be enabled that the old had not.
func gains(old, next *snap.App) bool {
	had := map[string]bool{}
	for _, u := range bootUnits(old) {
		had[u] = true
	}
	for _, u := range bootUnits(next) {
		if !had[u] {
			return true
		}
	}
	return false
}

// bootUnits names what is enabled for a service: its activators, else itself.
func bootUnits(a *snap.App) []string {
	if a == nil {
		return nil
	}
	var units []string
	for _, s := range a.Sockets {
		units = append(units, "socket "+s.Name)
	}
	if a.Timer != "" {
		units = append(units, "timer")
	}
	if !a.Activated() {
		units = append(units, "service")
	}
	return units
}

// activatedBy says what starts the app.
func activatedBy(a *snap.App) string {
	switch {
	case len(a.Sockets) > 0:
		return "its socket starts it"
	case a.Timer != "":
		return "its timer starts it"
	}
	return "D-Bus starts it"
}
