// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"context"
	"testing"
	"time"

	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/state"
	"endured/snap"
)

// TestReaper: a revision that an enduring process still ran from when it was to
// be discarded goes by itself as soon as that process has ended, also when
// another daemon has to see to it, and nobody else's command is refused for it.
func TestReaper(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	for _, v := range []string{"v1", "v2", "v3"} {
		m.done(m.install(v))
	}
	if rec := m.record(); rec.Rev(snap.Revision(-1)) == nil {
		t.Fatal("x1 is gone while a process runs from it")
	}
	m.stop()
	m.reaps = true
	m.start()
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	changed := make(chan struct{}, 1)
	defer m.o.State().AddChangeWatcher(func(string) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	restart := recipes.ServicesRequest{Event: lifecycle.Restart, Names: []string{"demo.keeper"}}
	m.done(m.o.Services(ctx, restart))
	for m.record().Rev(snap.Revision(-1)) != nil {
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("x1 is still there")
		}
		m.done(m.o.Services(ctx, restart)) // never refused
	}
	kinds := map[string]int{}
	m.view(func(tx *state.Tx) {
		for _, c := range tx.Changes() {
			kinds[c.Kind()]++
		}
	})
	if kinds["discard-revision"] != 1 {
		t.Errorf("changes: %v", kinds)
	}
	m.sound()
}
