// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"errors"

	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/wrappers"
)

// because does a step with the reason for its stop written down, where a stop
// belongs to it and the service has commands that read the reason.
func (m *Manager) because(rec *snapstate.Record, info *snap.Info, s lifecycle.Step, c *Control, change string, do func() error) error {
	stops := s.Action == lifecycle.DoStop || s.Action == lifecycle.DoRestart
	if !stops || !m.tellsStop(rec, info, s) {
		return do()
	}
	r := wrappers.StopReason{Reason: c.Event.StopReason(), From: s.From, To: s.To, Change: change}
	if err := wrappers.WriteStopReason(m.Dirs, s.Unit, r); err != nil {
		return err
	}
	return errors.Join(do(), wrappers.ForgetStopReason(m.Dirs, s.Unit))
}

// tellsStop tells whether the revision that is stopped, or the one that is
// current, has commands for the stop of the service.
func (m *Manager) tellsStop(rec *snapstate.Record, info *snap.Info, s lifecycle.Step) bool {
	if wrappers.TellsStop(info.Apps[s.App]) {
		return true
	}
	e := rec.Rev(s.From)
	if e == nil {
		return false
	}
	started, err := m.Snaps.Info(rec.Name, e)
	return err == nil && wrappers.TellsStop(started.Apps[s.App])
}
