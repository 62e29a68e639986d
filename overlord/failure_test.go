// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
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
		{name: "vanish", prepare: steps(install("v1")), run: install("v4")},
		{name: "refuse", prepare: steps(install("v1"), install("v2")), run: install("v3"), broken: broken},
		{name: "revert", prepare: steps(install("v1"), install("v3")), run: revert},
		{name: "disable", prepare: steps(install("v1")), run: disable},
		{name: "enable", prepare: steps(install("v1"), disable), run: enable},
		{name: "remove", prepare: steps(install("v1"), install("v2")), run: removeAll},
	}
}

// at prepares a machine for the scenario.
func (s *scenario) at(t *testing.T, lib *library) *machine {
	t.Helper()
	m := newMachine(t, lib)
	for _, f := range s.prepare {
		m.done(f(m))
	}
	m.sound()
	if t.Failed() {
		t.Fatal("not even the preparation is sound")
	}
	m.fake.ResetCalls()
	return m
}

// calls are those that the scenario makes when nothing gets in its way.
func (s *scenario) calls(t *testing.T, lib *library) []string {
	t.Helper()
	m := s.at(t, lib)
	m.hook(s.broken, nil, nil)
	id, err := s.run(m)
	if err != nil {
		t.Fatal(err)
	}
	m.wait(id)
	m.sound()
	return m.fake.Calls()
}

// goesOn checks that commands work as ever.
func (m *machine) goesOn() {
	m.t.Helper()
	if m.t.Failed() {
		return // the first failure tells more
	}
	m.hook(nil, nil, nil)
	if rec := m.record(); rec != nil && !rec.Active {
		m.done(enable(m))
		m.sound()
	}
	m.done(m.install("v2"))
	m.sound()
	m.done(m.remove())
	m.sound()
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

// TestEveryCallFails has each call to systemd refused in turn. A change that
// ends in an error leaves everything as it was.
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	lib := newLibrary(t)
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	for _, s := range scenarios() {
		for k, call := range s.calls(t, lib) {
			t.Run(fmt.Sprintf("%s/%02d-%s", s.name, k, strings.ReplaceAll(call, " ", "-")), func(t *testing.T) {
				t.Parallel()
				s.fails(t, lib, k)
			})
		}
	}
}

func (s *scenario) fails(t *testing.T, lib *library, k int) {
	m := s.at(t, lib)
	before := m.world()
	var mu sync.Mutex
	n := 0
	m.hook(s.broken, func(call string) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		if n == k+1 {
			return errors.New("refused by the test")
		}
		return nil
	}, nil)
	id, err := s.run(m)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := m.wait(id)
	m.sound()
	if st != state.Done {
		calls := touched(m.fake.Calls())
		m.same(strip(before, calls), strip(m.world(), calls))
	}
	if t.Failed() {
		t.Logf("%s\n%s", m.tasks(id), strings.Join(m.fake.Calls(), "\n"))
	}
	m.goesOn()
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
