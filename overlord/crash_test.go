// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"endured/overlord/state"
)

// TestCrashAroundEveryCommit ends the daemon between the act and the commit of
// each task, and just after each commit, and starts another one.
func TestCrashAroundEveryCommit(t *testing.T) {
	inEachScenario(t, func(s *scenario, m *machine, k int) (string, string) { return s.crashAtPoint(m, k, false) })
}

// TestCrashBetweenSteps ends the daemon between the steps of a switch, and of a
// seal, and starts another one.
func TestCrashBetweenSteps(t *testing.T) {
	inEachScenario(t, func(s *scenario, m *machine, k int) (string, string) { return s.crashAtPoint(m, k, true) })
}

// isStep tells fault points between steps of a task from those around commits.
func isStep(point string) bool {
	for _, p := range []string{"switch-snap:forward:", "switch-snap:back:", "seal:"} {
		if strings.HasPrefix(point, p) {
			return true
		}
	}
	return false
}

// TestCrashInEveryCall ends the daemon in each of its calls to systemd, before
// and after that takes effect, and starts another one.
func TestCrashInEveryCall(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		inEachScenario(t, func(s *scenario, m *machine, k int) (string, string) { return s.crashInCall(m, k, false) })
	})
	t.Run("after", func(t *testing.T) {
		inEachScenario(t, func(s *scenario, m *machine, k int) (string, string) { return s.crashInCall(m, k, true) })
	})
}

// TestPowerLossInEveryCall cuts the power in each call to systemd. Until the
// daemon has completed or undone the change, the boot starts nothing of a snap
// that is between two revisions.
func TestPowerLossInEveryCall(t *testing.T) {
	inEachScenario(t, (*scenario).cutPower)
}

func (s *scenario) cutPower(m *machine, k int) (met, id string) {
	var n atomic.Int32
	reached, verdict := make(chan string, 1), make(chan error)
	m.hook(s.broken, func(call string) error {
		if int(n.Add(1)) == k+1 {
			reached <- call
			return <-verdict
		}
		return nil
	}, nil)
	id = m.begun(s.run(m))
	if met = m.first(id, reached); met != "" {
		m.where = met + ": "
		m.stop()
		m.hook(s.broken, nil, nil)
		verdict <- errors.New("the caller is gone")
		m.reboot()
		m.start()
		s.ends(m, id)
		m.booted()
	}
	return met, id
}

// booted waits until the boot has started what it starts.
func (m *machine) booted() {
	m.t.Helper()
	for _, u := range []string{svc, keeper, web, extra} {
		if _, err := m.sd.Settle(m.t.Context(), u, false); err != nil {
			m.errorf("%s does not settle: %v", u, err)
		}
	}
}

// TestAbortInEveryCall aborts the change during each of its calls to systemd.
func TestAbortInEveryCall(t *testing.T) {
	inEachScenario(t, (*scenario).abort)
}

// TestAbortAroundEveryCommit aborts the change between the act and the commit
// of each task, and just after each commit.
func TestAbortAroundEveryCommit(t *testing.T) {
	inEachScenario(t, (*scenario).abortAtPoint)
}

func (s *scenario) abortAtPoint(m *machine, k int) (met, id string) {
	var n atomic.Int32
	reached, started := make(chan string, 1), make(chan string, 1)
	m.hook(s.broken, nil, func(point string) {
		if !isStep(point) && int(n.Add(1)) == k+1 {
			m.o.Abort(<-started) // refused where the change has ended meanwhile
			reached <- point
		}
	})
	id = m.begun(s.run(m))
	started <- id
	m.wait(id)
	select {
	case met = <-reached:
	default:
	}
	return met, id
}

func (s *scenario) abort(m *machine, k int) (met, id string) {
	var n atomic.Int32
	reached, started := make(chan string, 1), make(chan string, 1)
	m.hook(s.broken, func(call string) error {
		if int(n.Add(1)) == k+1 {
			m.o.Abort(<-started) // refused where the change has ended meanwhile
			reached <- call
		}
		return nil
	}, nil)
	id = m.begun(s.run(m))
	started <- id
	m.wait(id)
	select {
	case met = <-reached:
	default:
	}
	return met, id
}

func (s *scenario) crashAtPoint(m *machine, k int, steps bool) (met, id string) {
	var n atomic.Int32
	reached := make(chan string, 1)
	m.hook(s.broken, nil, func(point string) {
		if isStep(point) == steps && int(n.Add(1)) == k+1 {
			reached <- point
			runtime.Goexit()
		}
	})
	id = m.begun(s.run(m))
	if met = m.first(id, reached); met != "" {
		m.where = met + ": "
		m.stop()
		m.hook(s.broken, nil, nil)
		m.start()
		s.ends(m, id)
	}
	return met, id
}

func (s *scenario) crashInCall(m *machine, k int, effect bool) (met, id string) {
	var n atomic.Int32
	reached, verdict := make(chan string, 1), make(chan error)
	m.hook(s.broken, func(call string) error {
		if int(n.Add(1)) == k+1 {
			reached <- call
			return <-verdict
		}
		return nil
	}, nil)
	id = m.begun(s.run(m))
	if met = m.first(id, reached); met != "" {
		m.where = met + ": "
		m.stop()
		m.hook(s.broken, nil, nil)
		if made := len(m.fake.Calls()); effect {
			verdict <- nil
			for len(m.fake.Calls()) == made {
				time.Sleep(time.Millisecond)
			}
		} else {
			verdict <- errors.New("the caller is gone")
		}
		m.start()
		s.ends(m, id)
	}
	return met, id
}

// ends checks that a crash is no reason for a change to fail.
func (s *scenario) ends(m *machine, id string) {
	if st, msg := m.wait(id); s.broken == nil && st != state.Done {
		m.errorf("the change is %s: %s", st, msg)
	}
}

// first waits for a point, or for the change to end without reaching it: "".
func (m *machine) first(id string, reached <-chan string) string {
	ctx, stop := context.WithTimeout(m.t.Context(), 40*time.Second)
	defer stop()
	over := make(chan error, 1)
	st := m.o.State()
	go func() { over <- st.WaitChange(ctx, id) }()
	select {
	case p := <-reached:
		return p
	case err := <-over:
		if err != nil {
			m.t.Fatal(err)
		}
	}
	select {
	case p := <-reached: // the last commit of all
		return p
	default:
		return ""
	}
}
