// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"endured/overlord/recipes"
	"endured/overlord/state"
	"endured/snap"
)

// TestWritesBetweenTwoWaysForward: a refresh fails, the old revision serves
// again and writes, the daemon is killed before it has recorded the failure,
// and the refresh, tried again, succeeds. What was written is not lost.
func TestWritesBetweenTwoWaysForward(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	reached, verdict := make(chan struct{}), make(chan error)
	m.hook(func(unit, rev string) error {
		if unit == extra {
			return errors.New("no such command")
		}
		return nil
	}, func(call string) error {
		if call == "StopUnit "+gate+" replace" { // the old revision serves again
			close(reached)
			return <-verdict
		}
		return nil
	}, nil)
	id := m.begun(m.install("v3"))
	<-reached
	if rev := m.runs(m.pid(svc)); rev != "x1" {
		t.Errorf("%s runs from %s", svc, rev)
	}
	write(t, m.dirs.Data("demo", snap.Revision(-1)), "late", "acknowledged", 0o644)
	m.stop()
	m.hook(nil, nil, nil)
	verdict <- errors.New("the caller is gone")
	m.start()
	if st, msg := m.wait(id); st != state.Done {
		t.Fatalf("the change is %s: %s", st, msg)
	}
	if data, err := os.ReadFile(filepath.Join(m.dirs.Data("demo", snap.Revision(-2)), "late")); string(data) != "acknowledged" {
		t.Errorf("what was written meanwhile is lost: %q, %v", data, err)
	}
	m.sound()
}

// TestDataElsewhere: data that cannot be copied is not gone on without.
func TestDataElsewhere(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v4"))
	data, elsewhere := m.dirs.Data("demo", snap.Revision(-1)), filepath.Join(m.root, "elsewhere")
	if err := errors.Join(os.Rename(data, elsewhere), os.Symlink(elsewhere, data)); err != nil {
		t.Fatal(err)
	}
	s := m.pid(svc)
	if msg := m.failed(m.install("v5")); !strings.Contains(msg, data+" is not a directory") {
		t.Errorf("the error is %q", msg)
	}
	if m.pid(svc) != s {
		t.Error("the service was disturbed")
	}
}

// TestNamedTwice: one snap that is named twice is removed once.
func TestNamedTwice(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	id := m.done(m.o.Remove(t.Context(), []string{"demo", "demo"}, recipes.RemoveOptions{Purge: true}))
	m.view(func(tx *state.Tx) {
		if n := len(tx.Change(id).Tasks()); n != 4 {
			t.Errorf("%d tasks, want plan, switch, disconnect and discard", n)
		}
	})
	m.sound()
}
