// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"endured/overlord/recipes"
	"endured/overlord/state"
)

// scenario is a change and what comes before it.
type scenario struct {
	name    string
	prepare []func(m *machine) (string, error)
	run     func(m *machine) (string, error)
	broken  func(unit, rev string) error // what cannot start during run
}

func install(version string) func(m *machine) (string, error) {
	return func(m *machine) (string, error) { return m.install(version) }
}

func revert(m *machine) (string, error)  { return m.o.Revert(m.t.Context(), "demo", 0) }
func enable(m *machine) (string, error)  { return m.o.Enable(m.t.Context(), "demo") }
func disable(m *machine) (string, error) { return m.o.Disable(m.t.Context(), "demo") }

// ceiling sets the operator's bound on stops, or takes it away.
func ceiling(value any) func(m *machine) (string, error) {
	return func(m *machine) (string, error) { return m.set("refresh.stop-timeout-max", value) }
}

// removeAll saves a snapshot, as "snap remove" does without --purge.
func removeAll(m *machine) (string, error) {
	return m.o.Remove(m.t.Context(), []string{"demo"}, recipes.RemoveOptions{})
}

func steps(fs ...func(m *machine) (string, error)) []func(m *machine) (string, error) { return fs }

// scenarios are the changes that are made to fail and to crash everywhere.
func scenarios() []scenario {
	broken := func(unit, rev string) error {
		if unit == extra {
			return errors.New("no such command")
		}
		return nil
	}
	return []scenario{
		{name: "install", run: install("v1")},
		{name: "refresh", prepare: steps(install("v1"), install("v2")), run: install("v3")},
		{name: "discard", prepare: steps(install("v4"), install("v5")), run: install("v4")},
		{name: "vanish", prepare: steps(install("v1")), run: install("v4")},
		{name: "refuse", prepare: steps(install("v1"), install("v2")), run: install("v3"), broken: broken},
		{name: "revert", prepare: steps(install("v1"), install("v3")), run: revert},
		{name: "disable", prepare: steps(install("v1")), run: disable},
		{name: "enable", prepare: steps(install("v1"), disable), run: enable},
		{name: "ceiling", prepare: steps(ceiling(nil), install("v1"), install("v2")), run: ceiling("4s")},
		{name: "download", prepare: steps(fetch(1), fetch(2)), run: fetch(3)},
		{name: "again", prepare: steps(fetch(4), fetch(5)), run: fetch(4)},
		{name: "remove", prepare: steps(install("v1"), install("v2")), run: removeAll},
	}
}

// reset puts the machine where the scenario begins.
func (s *scenario) reset(m *machine) {
	m.t.Helper()
	m.hook(nil, nil, nil)
	if m.record() != nil {
		m.done(m.remove())
		m.sound()
	}
	for _, f := range s.prepare {
		m.done(f(m))
	}
	m.sound()
}

// inEachScenario has every scenario meet a mishap everywhere; see there.
func inEachScenario(t *testing.T, mishap func(s *scenario, m *machine, k int) (met, id string)) {
	t.Parallel()
	lib := newLibrary(t)
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.everywhere(t, lib, func(m *machine, k int) (string, string) { return mishap(&s, m, k) })
		})
	}
}

// everywhere has the scenario meet a mishap at its first point, its second, and
// so on, until there is none left; or at a sample of them, unless
// OVERLORD_EVERY_POINT=1 is set. try says what was met, "" for nothing, and
// how the change ended. One that ended in an error has left everything as it
// was, and commands work as ever: the same machine goes on with the next point.
func (s *scenario) everywhere(t *testing.T, lib *library, try func(m *machine, k int) (met, id string)) {
	step := stride
	switch {
	case os.Getenv("OVERLORD_EVERY_POINT") == "1":
		step = 1
	case strings.Contains(t.Name(), "AroundEveryCommit"): // few points, and the ones that count
		step = max(stride/3, 1)
	}
	m := newMachine(t, lib)
	s.reset(m)
	for k := len(t.Name()) % step; !t.Failed(); k += step {
		before, boots := m.world(), m.boots
		m.fake.ResetCalls()
		met, id := try(m, k)
		m.where = fmt.Sprintf("%d %s: ", k, met)
		st, _ := m.wait(id)
		m.hook(nil, nil, nil)
		m.sound()
		calls := touched(m.fake.Calls())
		if m.boots > boots {
			calls = append(calls, svc, keeper, web, extra)
		}
		switch {
		case st == state.Done:
		case strings.HasPrefix(met, "discard-revisions:do"), s.dropped(m, met): // what is dropped does not come back
		case m.record() == nil && len(s.prepare) > 0:
			m.late(id)
		default:
			m.same(strip(before, calls), strip(m.world(), calls))
		}
		if t.Failed() {
			t.Logf("%s%s\n%s\n%s", m.where, st, m.tasks(id), strings.Join(m.fake.Calls(), "\n"))
		}
		if met == "" || t.Failed() {
			return
		}
		if st == state.Done || m.record() == nil || strings.HasPrefix(met, "discard-revisions:do") || s.dropped(m, met) {
			s.reset(m)
		}
	}
}

// dropped tells whether a call met the mishap that belongs to dropping the first
// revision, and that is gone: an abort may come too late for it.
func (s *scenario) dropped(m *machine, met string) bool {
	rec := m.record()
	return s.name == "discard" && strings.HasSuffix(met, "snap-demo-x1.mount") && rec != nil && rec.Rev(-1) == nil
}

// late checks that a removal was aborted when all was removed already.
func (m *machine) late(id string) {
	m.t.Helper()
	if !strings.Contains(m.tasks(id), "Too late to go back") {
		m.errorf("the snap is gone, and nobody says why")
	}
	if left, _ := filepath.Glob(filepath.Join(m.dirs.Snapshots(), id+"_*.zip")); len(left) > 1 {
		m.errorf("snapshots: %v", left)
	}
}

// touched lists the units that a change has stopped or restarted.
func touched(calls []string) []string {
	var out []string
	for _, c := range calls {
		if f := strings.Fields(c); f[0] == "RestartUnit" || f[0] == "StopUnit" {
			out = append(out, f[1])
		}
	}
	return out
}

// TestEveryCallFails has each call to systemd refused in turn.
func TestEveryCallFails(t *testing.T) {
	inEachScenario(t, (*scenario).refuse)
}

func (s *scenario) refuse(m *machine, k int) (met, id string) {
	var n atomic.Int32
	refused := make(chan string, 1)
	m.hook(s.broken, func(call string) error {
		if int(n.Add(1)) == k+1 {
			refused <- call
			return errors.New("refused by the test")
		}
		return nil
	}, nil)
	id = m.begun(s.run(m))
	m.wait(id)
	select {
	case met = <-refused:
	default:
	}
	return met, id
}

// strip leaves out, for units that may have been restarted, what their process
// was, and that it was an older one.
func strip(world []string, units []string) []string {
	var out []string
	for _, l := range world {
		for _, u := range units {
			if strings.HasPrefix(l, u+" ") {
				l, _, _ = strings.Cut(l, " from ")
			}
			if strings.Contains(l, "/"+u+".d/") {
				l = ""
			}
		}
		if l != "" {
			out = append(out, l)
		}
	}
	return out
}
