// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

var update = flag.Bool("update", false, "write the golden files")

// chain is a change's kind, summary and tasks, and what was asked of systemd.
func (m *machine) chain(id string) string {
	var b strings.Builder
	m.view(func(tx *state.Tx) {
		c := tx.Change(id)
		fmt.Fprintf(&b, "%s: %s\n", c.Kind(), c.Summary())
		for _, t := range c.Tasks() {
			fmt.Fprintf(&b, "  %s: %s\n", t.Kind(), t.Summary())
		}
	})
	for _, c := range m.fake.Calls() {
		if !strings.HasPrefix(c, "CancelJob") {
			fmt.Fprintf(&b, "    %s\n", c)
		}
	}
	m.fake.ResetCalls()
	return b.String()
}

// TestRecipes goes through a snap's life: what each change is made of, what it
// asks of systemd, and that everything fits together after it.
func TestRecipes(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	ctx := t.Context()
	var got strings.Builder
	did := func(id string, err error) {
		t.Helper()
		m.done(id, err)
		got.WriteString(m.chain(id))
		m.sound()
		if t.Failed() {
			t.Fatalf("after change %s:\n%s", id, m.tasks(id))
		}
	}
	did(m.install("v1"))
	write(t, m.dirs.Data("demo", snap.Revision(-1)), "note", "first", 0o640)
	k, s := m.pid(keeper), m.pid(svc)
	did(m.install("v2"))
	if m.pid(keeper) != k || m.pid(svc) == s {
		t.Errorf("keeper went from %d to %d, svc from %d to %d", k, m.pid(keeper), s, m.pid(svc))
	}
	note := filepath.Join(m.dirs.Data("demo", snap.Revision(-2)), "note")
	if data, err := os.ReadFile(note); string(data) != "first" {
		t.Errorf("the data was not carried over: %q, %v", data, err)
	}
	did(m.install("v3"))
	did(m.o.Services(ctx, recipes.ServicesRequest{Event: lifecycle.Restart, Names: []string{"demo.svc"}}))
	did(revert(m))
	if m.pid(keeper) != k {
		t.Errorf("revert changed keeper from %d to %d", k, m.pid(keeper))
	}
	did(m.o.Services(ctx, recipes.ServicesRequest{Event: lifecycle.Stop, Names: []string{"demo.svc"}, Disable: true}))
	did(disable(m))
	did(enable(m))
	did(removeAll(m))
	if files, _ := filepath.Glob(filepath.Join(m.dirs.Snapshots(), "*.zip")); len(files) != 1 {
		t.Errorf("snapshots: %v", files)
	}
	golden(t, "recipes.golden", got.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	have, agreed := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	n := 0
	for n < min(len(have), len(agreed)) && have[n] == agreed[n] {
		n++
	}
	part := func(lines []string) string { return strings.Join(lines[max(n-3, 0):min(n+4, len(lines))], "\n") }
	t.Errorf("%s is not what was agreed; line %d, got:\n%s\nwant:\n%s\nall of it:\n%s", path, n+1, part(have), part(agreed), got)
}

func TestSameFileIsDoneWithoutTasks(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	m.fake.ResetCalls()
	before := m.world()
	id := m.done(m.install("v1"))
	m.view(func(tx *state.Tx) {
		if c := tx.Change(id); len(c.Tasks()) != 0 || c.Kind() != "refresh-snap" {
			t.Errorf("%s has tasks %v", c.Kind(), c.Tasks())
		}
	})
	m.same(before, m.world())
	if calls := m.fake.Calls(); len(calls) != 0 {
		t.Errorf("calls: %v", calls)
	}
}

func TestOneChangePerSnap(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	held, goOn := make(chan struct{}), make(chan struct{})
	m.hook(nil, nil, func(point string) {
		if point == "copy-snap-data:do:acted" {
			close(held)
			<-goOn
		}
	})
	id := m.begun(m.install("v2"))
	<-held
	for name, try := range map[string]func(*machine) (string, error){
		"install": install("v3"), "same": install("v1"), "disable": disable, "remove": removeAll,
		"stop": func(m *machine) (string, error) {
			return m.o.Services(t.Context(), recipes.ServicesRequest{Event: lifecycle.Stop, Names: []string{"demo"}})
		},
	} {
		var conflict *snapstate.ConflictError
		if _, err := try(m); !errors.As(err, &conflict) || conflict.ChangeID != id || conflict.ChangeKind != "refresh-snap" {
			t.Errorf("%s: %v", name, err)
		}
	}
	close(goOn)
	m.done(id, nil)
	m.sound()
}

func TestOperatorsWordLasts(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	m.done(m.o.Services(t.Context(), recipes.ServicesRequest{Event: lifecycle.Stop, Names: []string{"demo.svc"}}))
	m.done(m.o.Services(t.Context(), recipes.ServicesRequest{Event: lifecycle.Stop, Names: []string{"demo.keeper"}, Disable: true}))
	check := func(what string, extraRuns bool) {
		t.Helper()
		m.where = what + ": "
		m.sound()
		s, k, e := m.status(svc), m.status(keeper), m.status(extra)
		if s.MainPID != 0 || s.UnitFileState != "enabled" {
			t.Errorf("%s: svc has pid %d and is %s", what, s.MainPID, s.UnitFileState)
		}
		if k.MainPID != 0 || k.UnitFileState != "disabled" {
			t.Errorf("%s: keeper has pid %d and is %s", what, k.MainPID, k.UnitFileState)
		}
		if extraRuns != (e.MainPID != 0 && e.UnitFileState == "enabled") {
			t.Errorf("%s: extra has pid %d and is %q", what, e.MainPID, e.UnitFileState)
		}
	}
	check("stopped", false)
	m.done(m.install("v3"))
	check("refreshed", true)
	m.done(revert(m))
	check("reverted", false)
	m.hook(func(unit, rev string) error {
		if unit == extra {
			return errors.New("no such command")
		}
		return nil
	}, nil, nil)
	msg := m.failed(m.install("v3"))
	if !strings.Contains(msg, extra) {
		t.Errorf("the error does not name the service: %s", msg)
	}
	check("refresh failed", false)
	m.hook(nil, nil, nil)
	m.done(m.install("v4")) // keeper is gone, and comes back
	m.done(m.install("v1"))
	check("back again", false)
	m.done(m.o.Services(t.Context(), recipes.ServicesRequest{Event: lifecycle.Start, Names: []string{"demo"}, Enable: true}))
	if m.pid(svc) == 0 || m.pid(keeper) == 0 || m.status(keeper).UnitFileState != "enabled" {
		t.Error("start --enable does not start and enable")
	}
}

func (m *machine) sequence() []snap.Revision {
	var out []snap.Revision
	for _, e := range m.record().Sequence {
		out = append(out, e.Revision)
	}
	return out
}

func TestRevisionsAreRetained(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	for i, v := range []string{"v4", "v5", "v4", "v5"} {
		m.done(m.install(v))
		m.sound()
		want := []snap.Revision{-snap.Revision(i), -snap.Revision(i + 1)}
		if i == 0 {
			want = want[1:]
		}
		if got := m.sequence(); !slices.Equal(got, want) {
			t.Errorf("kept %v, want %v", got, want)
		}
	}
	m.done(revert(m))
	if got := m.sequence(); !slices.Equal(got, []snap.Revision{-3, -4}) || m.record().Current != -3 {
		t.Errorf("after revert: %v, current %s", got, m.record().Current)
	}
	m.done(m.install("v1"))
	m.sound()
	if got := m.sequence(); !slices.Equal(got, []snap.Revision{-3, -5}) {
		t.Errorf("the revision that was reverted from is kept: %v", got)
	}
	if _, err := m.o.Revert(t.Context(), "demo", -4); err == nil {
		t.Error("reverted to a revision that is gone")
	}
	m.done(m.o.Remove(t.Context(), []string{"demo"}, recipes.RemoveOptions{Revision: -3}))
	m.sound()
	if got := m.sequence(); !slices.Equal(got, []snap.Revision{-5}) {
		t.Errorf("after removing x3: %v", got)
	}
}

// TestRevisionLivesWhileUsed: the enduring process keeps the revision that it
// was started from, and is stopped when a revision has no such service.
func TestRevisionLivesWhileUsed(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	k := m.pid(keeper)
	for i, v := range []string{"v2", "v1", "v2"} {
		m.done(m.install(v))
		m.sound()
		if m.pid(keeper) != k || m.sequence()[0] != -1 {
			t.Errorf("refresh %d: keeper %d, was %d; %v", i, m.pid(keeper), k, m.sequence())
		}
	}
	if _, err := m.o.Remove(t.Context(), []string{"demo"}, recipes.RemoveOptions{Revision: -1}); err != nil {
		t.Fatal(err)
	}
	warned := 0
	m.view(func(tx *state.Tx) {
		for _, w := range tx.Warnings() {
			if strings.Contains(w.Message, fmt.Sprintf("demo.keeper (pid %d)", k)) {
				warned++
			}
		}
	})
	if warned == 0 {
		t.Error("nobody was told that the data is not sealed")
	}
	m.waitIdle()
	m.done(m.install("v4"))
	m.sound()
	if st := m.status(keeper); st.MainPID != 0 || st.LoadState != "not-found" {
		t.Errorf("keeper has pid %d and is %s", st.MainPID, st.LoadState)
	}
	if slices.Contains(m.sequence(), -1) {
		t.Errorf("x1 is kept although nothing uses it: %v", m.sequence())
	}
}

// waitIdle waits until no change is in progress.
func (m *machine) waitIdle() {
	m.t.Helper()
	var ids []string
	m.view(func(tx *state.Tx) {
		for _, c := range tx.Changes() {
			ids = append(ids, c.ID())
		}
	})
	for _, id := range ids {
		m.wait(id)
	}
}
