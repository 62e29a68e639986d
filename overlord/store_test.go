// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/store"
)

// shelve makes the library a store: version v3 is revision 3, in channel 3/stable.
func (l *library) shelve(t *testing.T) {
	t.Helper()
	x, err := store.MakeIndex(t.Context(), l.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := "snaps:\n"
	for _, e := range x.Snaps {
		number := strings.TrimPrefix(e.Version, "v")
		text += fmt.Sprintf("- {name: demo, revision: %s, version: %s, channels: [%s/stable], file: %s, size: %d, sha3-384: '%s'}\n",
			number, e.Version, number, e.File, e.Size, e.SHA3)
	}
	write(t, l.dir, store.IndexName, text, 0o644)
}

// fetch installs a revision from the store, or refreshes to it.
func fetch(rev snap.Revision) func(m *machine) (string, error) {
	return func(m *machine) (string, error) {
		o := recipes.StoreOptions{Revision: rev}
		if m.record() == nil {
			return m.o.InstallNames(m.t.Context(), []string{"demo"}, o)
		}
		return m.o.Refresh(m.t.Context(), []string{"demo"}, o)
	}
}

// follow refreshes to what a channel has.
func follow(channel string) func(m *machine) (string, error) {
	return func(m *machine) (string, error) {
		return m.o.Refresh(m.t.Context(), []string{"demo"}, recipes.StoreOptions{Channel: channel})
	}
}

// TestStore goes through a snap's life with revisions from a store.
func TestStore(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	ctx := t.Context()
	is := func(rev snap.Revision, channel string) {
		t.Helper()
		m.sound()
		if r := m.record(); r.Current != rev || r.Channel != channel {
			t.Fatalf("revision %s, channel %q; want %s, %q", r.Current, r.Channel, rev, channel)
		}
	}
	data := func(rev snap.Revision) string {
		text, _ := os.ReadFile(filepath.Join(m.dirs.Data("demo", rev), "note"))
		return string(text)
	}
	m.done(m.o.InstallNames(ctx, []string{"demo", "demo"}, recipes.StoreOptions{Channel: "1"}))
	is(1, "1/stable")
	var there *recipes.AlreadyInstalledError
	if _, err := m.o.InstallNames(ctx, []string{"demo"}, recipes.StoreOptions{}); !errors.As(err, &there) {
		t.Errorf("installed again: %v", err)
	}
	var none *recipes.NoUpdateError
	if _, err := m.o.Refresh(ctx, []string{"demo"}, recipes.StoreOptions{}); !errors.As(err, &none) {
		t.Errorf("nothing new: %v", err)
	}
	m.done(m.o.Refresh(ctx, nil, recipes.StoreOptions{}))
	is(1, "1/stable")

	write(t, m.dirs.Data("demo", snap.Revision(1)), "note", "one", 0o644)
	m.done(follow("2/edge")(m)) // which is closed and follows 2/stable
	is(2, "2/edge")
	write(t, m.dirs.Data("demo", snap.Revision(2)), "note", "two", 0o644)
	updates, err := m.o.Updates(ctx)
	if err != nil || len(updates) != 0 {
		t.Errorf("updates: %+v, %v", updates, err)
	}
	m.done(m.o.SwitchChannel(ctx, "demo", "3"))
	is(2, "3/stable")
	updates, err = m.o.Updates(ctx)
	if err != nil || len(updates) != 1 || updates[0].Offer.Revision != 3 || updates[0].Plan.Step("svc") == nil {
		t.Fatalf("updates: %+v, %v", updates, err)
	}

	// to a revision that is there still: with the data of the one it comes from
	if _, err := fetch(1)(m); err == nil || !strings.Contains(err.Error(), "processes still run from it") {
		t.Errorf("a revision that is in use: %v", err)
	}
	m.done(m.o.Services(ctx, recipes.ServicesRequest{Event: lifecycle.Restart, Names: []string{"demo"}}))
	m.done(fetch(1)(m))
	is(1, "3/stable")
	if got := data(1); got != "two" {
		t.Errorf("the data is %q", got)
	}
	m.done(m.o.Revert(ctx, "demo", 0))
	is(2, "3/stable")
	m.done(m.o.SwitchChannel(ctx, "demo", "1"))
	m.done(m.o.Refresh(ctx, nil, recipes.StoreOptions{})) // revision 1 is what was gone back from
	is(2, "1/stable")
	m.done(follow("3")(m))
	is(3, "3/stable")

	// from a file, and back
	m.done(m.install("v4"))
	is(-1, "3/stable")
	var local *recipes.LocalError
	if _, err := m.o.Refresh(ctx, []string{"demo"}, recipes.StoreOptions{}); !errors.As(err, &local) {
		t.Errorf("refresh of a local revision: %v", err)
	}
	m.done(m.o.Refresh(ctx, nil, recipes.StoreOptions{}))
	is(-1, "3/stable")
	m.done(m.o.Refresh(ctx, []string{"demo"}, recipes.StoreOptions{Amend: true, Channel: "5"}))
	is(5, "5/stable")
	m.done(m.remove())
	m.absent()
}

// TestStoreFails: what the store does not hold to leaves nothing behind.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	lib := newLibrary(t)
	m := newMachine(t, lib)
	m.done(fetch(1)(m))
	raw, err := os.ReadFile(lib.file("v2"))
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]struct {
		f       func() error
		message string
	}{
		"its hash": {func() error {
			bad := append([]byte(nil), raw...)
			bad[len(bad)-1] ^= 1
			return os.WriteFile(lib.file("v2"), bad, 0o644)
		}, "the hash is not what the store's index says"},
		"its file": {func() error { return os.Remove(lib.file("v2")) }, "no such file"},
	} {
		if err := os.WriteFile(lib.file("v2"), raw, 0o644); err != nil {
			t.Fatal(err)
		}
		before := m.world()
		plans, err := m.o.PlanRefresh(t.Context(), []string{"demo"}, recipes.StoreOptions{Revision: 2}) // reads its metadata
		if err != nil || len(plans) != 1 {
			t.Fatal(err)
		}
		if err := spoil.f(); err != nil {
			t.Fatal(err)
		}
		if msg := m.failed(fetch(2)(m)); !strings.Contains(msg, spoil.message) {
			t.Errorf("%s: %q", what, msg)
		}
		m.same(before, m.world())
		m.sound()
	}
	m.view(func(tx *state.Tx) {
		if r := m.record(); r.Current != 1 {
			t.Errorf("current is %s", r.Current)
		}
	})
}

// TestRetained: the operator says how many revisions are kept.
func TestRetained(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.o.Configure(t.Context(), "system", map[string]any{"refresh.retain": json.Number("3")}))
	for rev := snap.Revision(1); rev <= 4; rev++ {
		m.done(fetch(rev)(m))
	}
	if got := fmt.Sprint(m.sequence()); got != "[2 3 4]" {
		t.Errorf("kept: %s", got)
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(fetch(1)(m))
	refreshes := func() int {
		t.Helper()
		list, err := m.o.Updates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	id, err := m.o.SwitchChannel(t.Context(), "demo", "2")
	m.done(id, err)
	if n := refreshes(); n != 1 {
		t.Fatalf("%d refreshes before the hold", n)
	}
	name := []string{"demo"}
	m.done(m.o.Hold(t.Context(), name, snapstate.Hold{General: true}))
	if n := refreshes(); n != 0 {
		t.Errorf("%d refreshes of what is held", n)
	}
	m.done(m.o.Hold(t.Context(), name, snapstate.Hold{}))
	if n := refreshes(); n != 1 {
		t.Errorf("%d refreshes of what is held from beginning by itself", n)
	}
	m.done(m.o.Hold(t.Context(), name, snapstate.Hold{General: true, Until: time.Now().Add(-time.Second)}))
	if n := refreshes(); n != 1 {
		t.Errorf("%d refreshes when the hold is over", n)
	}
	m.done(m.o.Hold(t.Context(), name, snapstate.Hold{General: true, Until: time.Now().Add(time.Hour)}))
	m.done(m.o.Refresh(t.Context(), name, recipes.StoreOptions{})) // it is named
	m.done(m.o.Unhold(t.Context(), name))
	if _, err := m.o.Hold(t.Context(), []string{"demo", "nosuch"}, snapstate.Hold{General: true}); err == nil {
		t.Error("a snap that is not there is held")
	}
}
