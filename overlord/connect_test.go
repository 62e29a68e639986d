// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"endured/interfaces"
	"endured/overlord/recipes"
	"endured/overlord/state"
)

// conns returns the connections of the state: an ID, and what is said of it.
func (m *machine) conns() string {
	got := map[string]interfaces.ConnState{}
	m.view(func(tx *state.Tx) {
		if err := tx.Get("conns", &got); err != nil && !errors.Is(err, state.ErrNoState) {
			m.t.Error(err)
		}
	})
	var out []string
	for _, id := range slices.Sorted(maps.Keys(got)) {
		c := got[id]
		if c.Auto {
			id += " auto"
		}
		if c.Undesired {
			id += " undesired"
		}
		out = append(out, id)
	}
	return strings.Join(out, "; ")
}

// mayBind tells whether the unit of demo.web lets it bind low ports.
func (m *machine) mayBind() bool {
	unit, err := os.ReadFile(filepath.Join(m.dirs.Units(), "snap.demo.web.service"))
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Contains(string(unit), "CAP_NET_BIND_SERVICE")
}

func TestConnections(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	ctx := t.Context()
	plug, slot := interfaces.End{Snap: "demo", Name: "network-bind"}, interfaces.End{Name: "network-bind"}
	expect := func(when, conns string, binds bool) {
		t.Helper()
		if got := m.conns(); got != conns || m.mayBind() != binds {
			t.Errorf("%s: %q, binds %t", when, got, m.mayBind())
		}
	}
	const id = "demo:network-bind snapd:network-bind"
	m.done(m.install("v1"))
	expect("installed", id+" auto", true)
	service := m.pid(svc)

	m.fake.ResetCalls()
	m.done(m.o.Disconnect(ctx, interfaces.End{}, plug, false))
	expect("disconnected", id+" auto undesired", false)
	if calls := m.fake.Calls(); !slices.Equal(calls, []string{"Reload"}) || m.pid(svc) != service {
		t.Errorf("disconnecting asked for %q", calls)
	}
	if _, err := m.o.Disconnect(ctx, interfaces.End{}, plug, false); !errors.As(err, new(*interfaces.UnchangedError)) {
		t.Error(err)
	}
	m.done(m.install("v2"))
	expect("refreshed", id+" auto undesired", false)
	m.stop()
	m.start()
	expect("after the daemon's restart", id+" auto undesired", false)

	m.done(m.o.Connect(ctx, plug, slot))
	expect("connected", id, true)
	done := m.done(m.o.Connect(ctx, plug, slot))
	m.view(func(tx *state.Tx) {
		if n := len(tx.Change(done).Tasks()); n != 0 {
			t.Errorf("%d tasks to connect what is connected", n)
		}
	})
	m.done(disable(m))
	m.done(enable(m))
	expect("disabled and enabled", id, true)
	m.done(m.o.Disconnect(ctx, plug, slot, false))
	expect("disconnected again", "", false)
	m.done(m.install("v3"))
	expect("refreshed again", id+" auto", true)
	m.done(m.o.Disconnect(ctx, plug, slot, true))
	expect("forgotten", "", false)
	m.done(revert(m))
	expect("reverted", "", false)

	if _, err := m.o.Connect(ctx, interfaces.End{Snap: "demo", Name: "nope"}, slot); !errors.As(err, new(*interfaces.NoPlugError)) {
		t.Error(err)
	}
	m.done(m.o.Connect(ctx, plug, interfaces.End{}))
	m.done(m.o.Remove(ctx, []string{"demo"}, recipes.RemoveOptions{Purge: true}))
	if got := m.conns(); got != "" {
		t.Errorf("a removed snap is connected: %s", got)
	}
}

// TestConnectionsUndone: what an install connected is gone when it fails.
func TestConnectionsUndone(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.hook(func(unit, rev string) error { return errors.New("it does not start") }, nil, nil)
	m.failed(m.install("v1"))
	if got := m.conns(); got != "" {
		t.Errorf("still connected: %s", got)
	}
	if _, err := m.o.Connect(t.Context(), interfaces.End{Snap: "demo", Name: "network-bind"}, interfaces.End{}); !errors.As(err, new(*interfaces.NoSnapError)) {
		t.Error(err)
	}
}
