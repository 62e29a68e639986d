// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/wrappers"
)

func (m *machine) set(key string, value any) (string, error) {
	return m.o.Configure(m.t.Context(), "system", map[string]any{key: value})
}

// text reads a file that may not be there.
func text(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// TestCeilingOnStops sets and unsets the ceiling over services that run, one of
// them from an older revision.
func TestCeilingOnStops(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	m.done(m.install("v2")) // keeper runs on from x1, with a pin
	unit := func(name string) string { return text(filepath.Join(m.dirs.Units(), name)) }
	pin := func() string { return text(wrappers.PinPath(m.dirs, keeper)) }
	before, pinned := unit(svc), pin()
	if !strings.Contains(before, "TimeoutStopSec=30s\n") || pinned == "" {
		t.Fatalf("unit:\n%spin:\n%s", before, pinned)
	}
	pids := []int{m.pid(svc), m.pid(keeper), m.pid(web)}
	m.fake.ResetCalls()
	m.done(m.set("refresh.stop-timeout-max", "4s"))
	if calls := m.fake.Calls(); !slices.Equal(calls, []string{"Reload"}) {
		t.Errorf("systemd was asked for %q", calls)
	}
	if now := []int{m.pid(svc), m.pid(keeper), m.pid(web)}; !slices.Equal(now, pids) {
		t.Errorf("processes were %v and are %v", pids, now)
	}
	for _, u := range []string{svc, keeper, web} {
		if text := unit(u); !strings.Contains(text, "TimeoutStopSec=4s\n") {
			t.Errorf("%s:\n%s", u, text)
		}
	}
	plan, err := m.o.PlanRevert(t.Context(), "demo", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range plan.Services {
		if s.StopTimeout != 0 && (s.StopTimeout.String() != "4s" || !s.Clamped) {
			t.Errorf("plan of %s: %s, clamped %v", s.App, s.StopTimeout, s.Clamped)
		}
	}

	// what is written later has it, too
	m.done(m.install("v3"))
	if text := unit(extra); !strings.Contains(text, "TimeoutStopSec=4s\n") {
		t.Errorf("%s:\n%s", extra, text)
	}
	m.done(m.set("refresh", nil))
	m.sound()
	if text := unit(extra); !strings.Contains(text, "TimeoutStopSec=30s\n") {
		t.Errorf("%s:\n%s", extra, text)
	}
	m.fake.ResetCalls()
	m.done(m.set("refresh.stop-timeout-max", nil))
	if calls := m.fake.Calls(); len(calls) != 0 {
		t.Errorf("for nothing, systemd was asked for %q", calls)
	}
}

// TestCeilingFails has systemd refuse the new units: all is as it was.
func TestCeilingFails(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	unit := filepath.Join(m.dirs.Units(), svc)
	before := text(unit)
	var refused atomic.Bool
	m.hook(nil, func(call string) error {
		if call == "Reload" && !refused.Swap(true) {
			return errors.New("no")
		}
		return nil
	}, nil)
	m.failed(m.set("refresh.stop-timeout-max", "4s"))
	m.hook(nil, nil, nil)
	if text(unit) != before {
		t.Errorf("the unit is\n%s", text(unit))
	}
	if conf, err := m.o.Configuration("system", nil); err != nil || len(conf) != 0 {
		t.Errorf("set is %v, %v", conf, err)
	}
	m.done(m.install("v2"))
	m.sound()
}

// TestOverride lets the operator's word decide over the snap's.
func TestOverride(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.set("refresh-mode.demo.svc", "endure")) // before there is such a snap
	m.done(m.install("v1"))
	if _, err := m.set("refresh-mode.demo.nosuch", "endure"); err == nil || !strings.Contains(err.Error(), `snap "demo" has no service "nosuch"`) {
		t.Errorf("no such service: %v", err)
	}
	m.done(m.set("refresh-mode.demo.keeper", "restart"))
	pids := []int{m.pid(svc), m.pid(keeper)}
	m.done(m.install("v2"))
	if m.pid(svc) != pids[0] || m.pid(keeper) == pids[1] {
		t.Errorf("svc went from %d to %d, keeper from %d to %d", pids[0], m.pid(svc), pids[1], m.pid(keeper))
	}
	var none *snapstate.NotInstalledError
	if _, err := m.o.Configure(t.Context(), "nosuch", map[string]any{"a": 1}); !errors.As(err, &none) {
		t.Errorf("missing snap: %v", err)
	}
	if conf, err := m.o.Configuration("demo", nil); err != nil || len(conf) != 0 {
		t.Errorf("options of a snap: %v, %v", conf, err)
	}
	if _, err := m.o.Configure(t.Context(), "demo", map[string]any{"a": 1}); err == nil || !strings.Contains(err.Error(), `has no "configure" hook`) {
		t.Errorf("options of a snap without hook: %v", err)
	}
}

// TestCeilingAndChanges keeps the ceiling from moving under a change, whose plan
// has it.
func TestCeilingAndChanges(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	held, goOn := m.holdCall("Reload")
	id := m.begun(m.install("v2"))
	<-held
	var conflict *snapstate.ConflictError
	if _, err := m.set("refresh.stop-timeout-max", "4s"); !errors.As(err, &conflict) || conflict.ChangeID != id {
		t.Errorf("during a refresh: %v", err)
	}
	m.done(m.set("refresh-mode.demo.svc", "endure"))
	close(goOn)
	m.done(id, nil)

	held, goOn = m.holdCall("Reload")
	id = m.begun(m.set("refresh.stop-timeout-max", "4s"))
	<-held
	if _, err := m.o.Services(t.Context(), recipes.ServicesRequest{Event: "stop", Names: []string{"demo"}}); !errors.As(err, &conflict) || conflict.ChangeID != id {
		t.Errorf("while the ceiling moves: %v", err)
	}
	close(goOn)
	m.done(id, nil)
	m.sound()
}

// The system bus reads what is below /var/lib/snapd as a user of its own, also
// where an older daemon has made that for root only.
func TestBusCanRead(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	for range 2 {
		if fi, err := os.Stat(m.dirs.Lib()); err != nil || fi.Mode().Perm() != 0o755 {
			t.Errorf("%v, %v", fi.Mode(), err)
		}
		m.stop()
		if err := os.Chmod(m.dirs.Lib(), 0o700); err != nil {
			t.Fatal(err)
		}
		m.start()
	}
}
