// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"errors"
	"strings"

	"endured/overlord/lifecycle"
	"endured/snap"
	"endured/wrappers"
)

// tellWhy writes down for every service that the switch may stop why that is,
// for its stop commands to read. The way back stops for the same reason, in
// the other direction.
func (sw *Switch) tellWhy(c course) error {
	for _, s := range sw.steps() {
		if c.wish[s.App] == leave {
			continue
		}
		if err := sw.tell(c, s); err != nil {
			return err
		}
	}
	return nil
}

// telling does what may make services of the notify class exit, with the
// reason for that written down meanwhile.
func (sw *Switch) telling(c course, do func() error) error {
	for _, s := range sw.steps() {
		if s.Action != lifecycle.Signal || !c.forward {
			continue
		}
		if err := sw.tell(c, s); err != nil {
			return err
		}
	}
	return errors.Join(do(), sw.untell(c))
}

func (sw *Switch) tell(c course, s lifecycle.Step) error {
	app := either(s.App, c.target, c.other)
	if app == nil || !sw.tellsStop(s.App) {
		return nil
	}
	r := wrappers.StopReason{
		Reason: sw.intent.Plan.Event.StopReason(),
		From:   s.From, To: revisionOf(c.target), Change: sw.task.ChangeID(),
	}
	if !c.forward || r.From.Unset() {
		r.From = revisionOf(c.other)
	}
	if c.wish[s.App] == down {
		r.To = 0
	}
	return wrappers.WriteStopReason(sw.m.Dirs, app.Unit(), r)
}

// tellsStop tells whether any revision of a service has commands for its stop:
// the one that is stopped may be neither the old nor the new one.
func (sw *Switch) tellsStop(app string) bool {
	for _, info := range sw.others {
		if wrappers.TellsStop(service(info, app)) {
			return true
		}
	}
	return false
}

// untell takes back what no stop has consumed.
func (sw *Switch) untell(c course) error {
	for _, u := range allServices(c.target, c.other) {
		if err := wrappers.ForgetStopReason(sw.m.Dirs, u); err != nil {
			return err
		}
	}
	return nil
}

// untellLeft takes back what a daemon left that lost its state.
func (m *Manager) untellLeft(busy map[string]bool) error {
	units, err := wrappers.StopReasons(m.Dirs)
	if err != nil {
		return err
	}
	for _, u := range units {
		if parts := strings.Split(u, "."); len(parts) > 1 && busy[parts[1]] {
			continue
		}
		if err := wrappers.ForgetStopReason(m.Dirs, u); err != nil {
			return err
		}
	}
	return nil
}

func revisionOf(i *snap.Info) snap.Revision {
	if i == nil {
		return 0
	}
	return i.Revision
}
