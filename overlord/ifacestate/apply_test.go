// SPDX-License-Identifier: Apache-2.0

package ifacestate

import (
	"context"
	"errors"
	"testing"

	"endured/overlord/state"
)

// TestSwitching: from the beginning of a switch to its commit, in either
// direction, and no longer.
func TestSwitching(t *testing.T) {
	t.Parallel()
	st, err := state.Open(t.TempDir()+"/state.db", state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	run := state.NewRunner(st, nil)
	expect := func(when string, want bool) {
		t.Helper()
		err := st.View(func(tx *state.Tx) error {
			if got := switching(tx, "one"); got != want {
				t.Errorf("%s: switching: %t", when, got)
			}
			if switching(tx, "two") {
				t.Errorf("%s: the other snap is, too", when)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	run.AddHandler("switch-snap", func(context.Context, *state.Task) (state.Commit, error) {
		expect("doing", true)
		return nil, nil
	}, func(context.Context, *state.Task) (state.Commit, error) {
		expect("undoing", true)
		return nil, nil
	})
	run.AddHandler("fail", func(context.Context, *state.Task) (state.Commit, error) {
		expect("done", false)
		return nil, errors.New("as wanted")
	}, nil)
	var id string
	err = st.Update(func(tx *state.Tx) error {
		c := tx.NewChange("refresh-snap", "Refresh")
		id = c.ID()
		sw, fail := tx.NewTask("switch-snap", "Switch"), tx.NewTask("fail", "Fail")
		fail.WaitFor(sw)
		c.AddTask(sw)
		c.AddTask(fail)
		return sw.Set("snap", "one")
	})
	if err != nil {
		t.Fatal(err)
	}
	expect("before", false)
	run.Start(t.Context())
	defer run.Stop()
	if err := st.WaitChange(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	expect("undone", false)
}
