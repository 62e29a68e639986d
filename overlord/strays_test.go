// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"testing"
)

// startNow starts a service as a connection to its socket does, and waits.
func (m *machine) startNow(unit string) {
	if err := m.sd.Run(m.t.Context(), "start", unit, "replace"); err != nil {
		m.t.Errorf("%v", err)
	}
}

// TestStartedBetweenPlanAndGate: what a connection starts from the old revision
// after the plan was made does not stay on it.
func TestStartedBetweenPlanAndGate(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	m.hook(nil, nil, func(point string) {
		if point == "plan-services:do:acted" {
			m.startNow(web)
		}
	})
	m.done(m.install("v2"))
	m.hook(nil, nil, nil)
	if rev := m.runs(m.pid(web)); rev != "x2" {
		t.Errorf("%s runs from %s", web, rev)
	}
	m.sound()
}

// TestActivatedBeforeGoingBack: what a connection starts from the new revision,
// before that turns out not to start in full, does not stay on it.
func TestActivatedBeforeGoingBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	gates := 0
	m.hook(func(unit, rev string) error {
		if unit == extra {
			return errors.New("no such command")
		}
		return nil
	}, func(call string) error {
		if call == "StartUnit "+gate+" replace" {
			if gates++; gates == 2 { // open, and about to be closed again to go back
				m.startNow(web)
				if rev := m.runs(m.pid(web)); rev != "x2" {
					t.Errorf("%s runs from %s before going back", web, rev)
				}
			}
		}
		return nil
	}, nil)
	m.failed(m.install("v3"))
	m.hook(nil, nil, nil)
	if rev := m.runs(m.pid(web)); rev != "x1" {
		t.Errorf("%s runs from %s, the refresh to which failed", web, rev)
	}
	m.sound()
}
