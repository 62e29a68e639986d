// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"slices"
	"testing"

	"endured/overlord/snapstate"
)

// TestUnits: a unit is judged by its own processes.
func TestUnits(t *testing.T) {
	t.Parallel()
	proc := func(pid int, unit string, by ...string) snapstate.SealedProcess {
		return snapstate.SealedProcess{Process: snapstate.Process{PID: pid, Unit: unit}, By: by}
	}
	r := &run{Spec: Spec{Record: &snapstate.Record{}}, seal: &snapstate.Seal{
		Processes: []snapstate.SealedProcess{proc(1, "whole", byMount), proc(2, "maps", byMount), proc(3, "bare"), proc(4, "whole", byProfile)},
		Writable:  []snapstate.WritableFile{{Path: "db", PIDs: []int{2, 9}, Why: whyMapped}},
	}}
	r.why.add("nothing keeps it off the data", 3)
	r.seal.Units = r.units()
	for unit, want := range map[string]snapstate.UnitSeal{
		"whole": {State: snapstate.Sealed},
		"maps":  {State: snapstate.PartlySealed, Why: []string{"1 file still writable by pid 2 (mapped into memory): db"}},
		"bare":  {State: snapstate.NotSealed, Why: []string{"pid 3: nothing keeps it off the data"}},
	} {
		if state, why := r.seal.Of(unit); state != want.State || !slices.Equal(why, want.Why) {
			t.Errorf("%s: %s %q", unit, state, why)
		}
	}
	r.why.add("devmode", 0)
	r.seal.Units = r.units()
	if state, why := r.seal.Of("whole"); state != snapstate.PartlySealed || len(why) != 1 {
		t.Errorf("in devmode: %s %q", state, why)
	}
}
