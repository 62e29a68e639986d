// SPDX-License-Identifier: Apache-2.0

package lifecycle

// reason is the clause for an event that leaves no choice.
func reason(e Event) string {
	switch e {
	case Install:
		return "the snap is installed"
	case Enable:
		return "the snap is enabled"
	case Disable:
		return "the snap is disabled"
	case Remove:
		return "the snap is removed"
	case Shutdown:
		return "the system shuts down"
	}
	return "asked to " + string(e)
}

// StopReason is the word that a service's stop commands are told. What
// installing or enabling has started is only stopped to take that back.
func (e Event) StopReason() string {
	switch e {
	case LocalInstall:
		return string(Refresh)
	case Install:
		return string(Remove)
	case Enable:
		return string(Disable)
	}
	return string(e)
}

// freshStep decides about a service under install and enable.
func (d *decision) freshStep(app string) Step {
	s, obs := d.begin(app)
	next := service(d.in.New, app)
	_, known := d.in.Observed.Services[app]
	switch {
	case next == nil && obs.Running:
		s = d.stopped(s, obs, true)
		return s.decided(DoStop, ByNew, "the revision has no such service")
	case next == nil:
		return s.decided(LeaveDown, ByNew, "the revision has no such service")
	case obs.Running:
		s.To = s.From
		s.Activators = activators(next, Keep)
		return s.decided(Keep, ByEvent, "it runs already")
	case known && !obs.Enabled:
		s.Activators = activators(next, Keep)
		return s.decided(LeaveDown, ByOperator, "disabled")
	case known:
		// It was enabled before, whatever install-mode says.
		enabled := *next
		enabled.InstallMode = ""
		return d.fresh(s, &enabled, ByEvent, reason(d.in.Event))
	case next.InstallMode == "disable":
		s.Activators = activators(next, Keep)
		return d.fresh(s, next, BySnap, "")
	}
	return d.fresh(s, next, ByEvent, reason(d.in.Event))
}

// startStep decides about a service that somebody wants started.
func (d *decision) startStep(app string) Step {
	s, obs := d.begin(app)
	current := service(d.in.New, app)
	s.Activators = activators(current, DoStart)
	switch {
	case obs.Running:
		s.To = s.From
		s = s.decided(Keep, ByEvent, "it runs already")
		if current != nil {
			s = stays(s, current)
		}
		return s
	case current == nil:
		return s.decided(LeaveDown, ByEvent, "the revision has no such service")
	case current.Activated():
		return s.decided(LeaveDown, BySnap, activatedBy(current))
	}
	s.To = d.plan.To
	return s.decided(DoStart, ByEvent, reason(Start))
}

// restartStep decides about a service that somebody wants restarted: what runs
// is restarted; what does not is started only if it was named.
func (d *decision) restartStep(app string) Step {
	s, obs := d.begin(app)
	current := service(d.in.New, app)
	s.Activators = activators(current, Keep)
	switch {
	case current == nil:
		return d.stopStep(app)
	case obs.Running:
		s.To = d.plan.To
		s = d.stopped(s, obs, false)
		by, why := d.stopReason(s)
		s.Mode = d.stopWord(s)
		return s.decided(DoRestart, by, why)
	case !d.named(app):
		return s.decided(LeaveDown, ByEvent, "it is not running")
	case current.Activated():
		s.Activators = activators(current, DoStart)
		return s.decided(LeaveDown, BySnap, activatedBy(current))
	}
	s.To = d.plan.To
	return s.decided(DoStart, ByEvent, reason(Restart))
}

// stopStep decides about a service under stop, disable, remove and shutdown.
func (d *decision) stopStep(app string) Step {
	s, obs := d.begin(app)
	s.Activators = activators(service(d.in.Old, app), DoStop)
	if !obs.Running {
		return s.decided(LeaveDown, ByEvent, "it is not running")
	}
	gentle := d.in.Event.onServices()
	s = d.stopped(s, obs, !gentle)
	if !gentle {
		if a, _ := d.source(app, s.From); d.in.Event == Shutdown && a != nil && a.StopMode != "" {
			// what the unit's stop spares gets SIGTERM like all that is left then
			s.All = a.StopMode.All() || s.Signal == "SIGTERM"
		}
		return s.decided(DoStop, ByEvent, reason(d.in.Event))
	}
	by, why := d.stopReason(s)
	s.Mode = d.stopWord(s)
	return s.decided(DoStop, by, why)
}

// stopWord is the stop-mode that a stop or restart follows, "" for none.
func (d *decision) stopWord(s Step) string {
	if a, _ := d.source(s.App, s.From); a != nil {
		return string(a.StopMode)
	}
	return ""
}

// stopReason says why a stop or restart is done the way it is.
func (d *decision) stopReason(s Step) (Decider, string) {
	if w := d.stopWord(s); w != "" {
		return BySnap, reason(d.in.Event) + ", and stop-mode is " + w
	}
	return ByEvent, reason(d.in.Event)
}

// apps decides about the processes of non-daemon apps.
func (d *decision) apps() {
	if d.in.Event.onServices() || d.in.Event == Install || d.in.Event == Enable {
		return
	}
	for _, p := range sortedProcesses(d.in.Observed.Apps) {
		s := AppStep{Process: p, Action: DoStop, Why: reason(d.in.Event)}
		if d.in.Event.RefreshLike() {
			s.Action, s.Why = Keep, "apps endure"
		}
		d.plan.Apps = append(d.plan.Apps, s)
	}
}
