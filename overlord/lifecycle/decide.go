// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"fmt"
	"sort"

	"endured/snap"
)

// decision is one run of Decide.
type decision struct {
	in        Input
	name      string                       // of the snap
	revisions map[snap.Revision]*snap.Info // all that are known
	plan      *Plan
}

// Decide says what an event does to everything that was observed running. It
// reads nothing but its input, and the same input gives the same plan.
//
// Errors: *BusyRevisionError (refresh, local-install, install),
// *RunningAppsError (remove, disable), *UnknownServiceError, and plain ones for
// input that makes no sense: an event without the revisions that it needs, or
// a mode that services do not have.
func Decide(in Input) (*Plan, error) {
	d := &decision{in: in}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	if err := d.refuse(); err != nil {
		return nil, err
	}
	for _, app := range d.services() {
		step, err := d.step(app)
		if err != nil {
			return nil, err
		}
		d.plan.Services = append(d.plan.Services, step)
		if err := d.generations(app); err != nil {
			return nil, err
		}
	}
	d.apps()
	d.seal()
	d.plan.Hooks = Hooks(in.Event, d.in.Old, d.in.New)
	return d.plan, nil
}

// prepare checks that the input has what the event needs, and fills in what
// follows from it.
func (d *decision) prepare() error {
	in := &d.in
	switch in.Event {
	case Refresh, LocalInstall, Revert:
		if in.Old == nil || in.New == nil {
			return fmt.Errorf("cannot plan %s: it takes two revisions", in.Event)
		}
	case Install, Enable:
		if in.New == nil {
			return fmt.Errorf("cannot plan %s: it takes a new revision", in.Event)
		}
		in.Old = nil
	case Start, Stop, Restart, Shutdown:
		if in.Old == nil {
			in.Old = in.New
		}
		in.New = in.Old
	case Disable, Remove:
		in.New = nil
	default:
		return fmt.Errorf("cannot plan event %q: unknown", in.Event)
	}
	if in.Old == nil && in.New == nil {
		return fmt.Errorf("cannot plan %s: it takes a current revision", in.Event)
	}
	if in.Old != nil && in.New != nil && in.Old.Name != in.New.Name {
		return errors.New("cannot plan an event across two snaps")
	}
	d.plan = &Plan{Event: in.Event}
	d.revisions = map[snap.Revision]*snap.Info{}
	for rev, info := range in.Started {
		d.revisions[rev] = info
	}
	if in.New != nil {
		d.name, d.plan.To = in.New.Name, in.New.Revision
		d.revisions[in.New.Revision] = in.New
	}
	if in.Old != nil {
		d.name, d.plan.From = in.Old.Name, in.Old.Revision
		d.revisions[in.Old.Revision] = in.Old
	}
	d.plan.Snap = d.name
	return nil
}

// refuse finds the reasons not to begin at all.
func (d *decision) refuse() error {
	in := d.in
	switch in.Event {
	case Refresh, LocalInstall, Install:
		if in.Old != nil && in.Old.Revision == in.New.Revision {
			return nil
		}
		if busy, pids := d.busy(in.New.Revision); busy {
			return &BusyRevisionError{Snap: d.name, Revision: in.New.Revision, PIDs: pids}
		}
	case Remove, Disable:
		if len(in.Observed.Apps) > 0 && !in.Terminate {
			return &RunningAppsError{Event: in.Event, Snap: d.name, Apps: sortedProcesses(in.Observed.Apps)}
		}
	case Start, Stop, Restart:
		for _, app := range in.Only {
			if service(in.Old, app) == nil {
				return &UnknownServiceError{Event: in.Event, Snap: d.name, App: app}
			}
		}
	}
	return nil
}

// busy tells whether anything runs from a revision, and what.
func (d *decision) busy(rev snap.Revision) (bool, []int) {
	busy, pids := false, []int(nil)
	for _, s := range d.in.Observed.Services {
		if s.Running && s.Revision == rev {
			busy = true
			if s.MainPID > 0 {
				pids = append(pids, s.MainPID)
			}
		}
		for _, g := range s.Generations {
			if g.Revision == rev {
				busy = true
				pids = append(pids, g.PIDs...)
			}
		}
	}
	for _, p := range d.in.Observed.Apps {
		if p.Revision == rev {
			busy = true
			pids = append(pids, p.PID)
		}
	}
	sort.Ints(pids)
	return busy, pids
}

// services lists the names of the services that the event concerns: in the
// start order of the revision that will be current, then those that it lacks.
func (d *decision) services() []string {
	var names []string
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, info := range []*snap.Info{d.in.New, d.in.Old} {
		if info != nil {
			for _, a := range info.Services() {
				add(a.Name)
			}
		}
	}
	var strays []string
	for name := range d.in.Observed.Services {
		strays = append(strays, name)
	}
	sort.Strings(strays)
	for _, name := range strays {
		add(name)
	}
	if len(d.in.Only) == 0 || !d.in.Event.onServices() {
		return names
	}
	var only []string
	for _, name := range names {
		if d.named(name) {
			only = append(only, name)
		}
	}
	return only
}

// onServices tells whether the event is a request about services.
func (e Event) onServices() bool { return e == Start || e == Stop || e == Restart }

// named tells whether the request names the service, not just its snap.
func (d *decision) named(app string) bool {
	for _, n := range d.in.Only {
		if n == app {
			return true
		}
	}
	return false
}

// step decides about one service.
func (d *decision) step(app string) (Step, error) {
	switch d.in.Event {
	case Refresh, LocalInstall, Revert:
		return d.refreshStep(app)
	case Install, Enable:
		return d.freshStep(app), nil
	case Start:
		return d.startStep(app), nil
	case Restart:
		return d.restartStep(app), nil
	}
	return d.stopStep(app), nil
}

// begin makes the step that all decisions about a service start from: nothing
// runs and nothing is done.
func (d *decision) begin(app string) (Step, Service) {
	obs := d.in.Observed.Services[app]
	s := Step{
		App:    app,
		Unit:   "snap." + d.name + "." + app + ".service",
		Action: LeaveDown,
	}
	if a := first(service(d.in.New, app), service(d.in.Old, app)); a != nil {
		s.Oneshot = a.Daemon == "oneshot"
	}
	if obs.Running {
		s.From = obs.Revision
		if s.From.Unset() {
			s.From = d.plan.From
		}
		if s.From.Unset() {
			s.From = d.plan.To
		}
		s.MainPID, s.InvocationID, s.Workers = obs.MainPID, obs.InvocationID, obs.Workers
	}
	return s, obs
}

// decided completes a step with an action, its decider and its reason.
func (s Step) decided(a Action, by Decider, why string) Step {
	s.Action, s.Decider, s.Why = a, by, why
	return s
}

// stopped fills in how the running process is stopped: as the revision it was
// started from says. With sweep, workers go too, whatever stop-mode says.
func (d *decision) stopped(s Step, obs Service, sweep bool) Step {
	a, _ := d.source(s.App, s.From)
	s.StopTimeout, s.Clamped = d.bound(a)
	s.SendSIGKILL = a == nil || a.SendSIGKILL
	if a == nil || a.StopMode == "" {
		return s
	}
	s.Signal = a.StopMode.Signal()
	s.All = sweep || a.StopMode.All()
	if !s.All {
		s = survivors(s, obs)
	}
	return s
}

// survivors notes that the processes besides main live on.
func survivors(s Step, obs Service) Step {
	s.Survivors = obs.Workers > 0
	s.Delegated = s.Survivors && obs.Delegated
	return s
}

// sortedProcesses returns a copy, by PID.
func sortedProcesses(in []Process) []Process {
	out := append([]Process(nil), in...)
	sort.SliceStable(out, func(i, j int) bool { return out[i].PID < out[j].PID })
	return out
}
