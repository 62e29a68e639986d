// SPDX-License-Identifier: Apache-2.0

package state

import "slices"

// Abort ends the change: tasks that have not begun are held, those that run
// have their context cancelled with ErrAborted, those that are done are undone,
// later ones first. It does nothing to a change that is ready.
func (c *Change) Abort() {
	if !c.tx.mustWrite() || c.Ready() {
		return
	}
	for _, t := range c.Tasks() {
		t.abort()
	}
}

// abort turns a single task back.
func (t *Task) abort() {
	switch t.rec.Status {
	case Do:
		t.setStatus(Hold)
	case Doing:
		t.setStatus(Abort)
		t.tx.aborted = append(t.tx.aborted, t.rec.ID)
	case Done:
		t.setStatus(Undo)
	}
}

// abortLanes turns back the tasks of these lanes, except those that are also
// in a lane in which nothing failed; and whatever depends on a task that is
// turned back, with its lanes in turn.
func (c *Change) abortLanes(lanes []int) {
	tasks := c.Tasks()
	doomed := make(map[int]bool) // lanes
	for _, l := range lanes {
		doomed[l] = true
	}
	dead := make(map[int]bool)
	for _, t := range tasks {
		if t.rec.Status.dead() {
			for _, l := range t.Lanes() {
				dead[l] = true
			}
		}
	}
	back := make(map[string]bool) // tasks
	for again := true; again; {
		again = false
		for _, t := range tasks {
			if back[t.rec.ID] || !c.mustTurnBack(t, doomed, dead, back) {
				continue
			}
			back[t.rec.ID] = true
			again = true
			for _, l := range t.Lanes() {
				doomed[l] = true
			}
		}
	}
	for _, t := range tasks {
		if back[t.rec.ID] {
			t.abort()
		}
	}
}

func (c *Change) mustTurnBack(t *Task, doomed, dead map[int]bool, back map[string]bool) bool {
	if slices.ContainsFunc(t.rec.Waits, func(id string) bool { return back[id] }) {
		return true
	}
	in := false
	for _, l := range t.Lanes() {
		if !doomed[l] && !dead[l] {
			return false
		}
		in = in || doomed[l]
	}
	return in
}
