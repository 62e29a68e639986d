// SPDX-License-Identifier: Apache-2.0

package state

// Status is where a task is on its way, and, put together, a change.
type Status string

// The statuses, by the names of snapd's API.
const (
	Do      Status = "Do"      // waits for its turn
	Doing   Status = "Doing"   // its handler runs, or will run again
	Done    Status = "Done"    // done, or with nothing to undo
	Abort   Status = "Abort"   // was aborted while doing
	Undo    Status = "Undo"    // waits to be undone
	Undoing Status = "Undoing" // its undo handler runs, or will run again
	Undone  Status = "Undone"  // done and undone
	Hold    Status = "Hold"    // aborted before anything was done
	Error   Status = "Error"   // its handler, or its undo handler, failed
)

// Ready tells whether nothing more will happen by itself.
func (s Status) Ready() bool {
	switch s {
	case Done, Undone, Hold, Error:
		return true
	}
	return false
}

// Running tells whether a handler of the task has begun and not ended, maybe in
// a daemon that is gone.
func (s Status) Running() bool {
	switch s {
	case Doing, Abort, Undoing:
		return true
	}
	return false
}

// dead tells whether a task in this status speaks against its lanes.
func (s Status) dead() bool {
	switch s {
	case Do, Doing, Done:
		return false
	}
	return true
}

// combine gives the status of a change: what is under way wins over what
// ended, and the worst end over the better ones.
func combine(tasks []*Task) Status {
	seen := make(map[Status]bool)
	for _, t := range tasks {
		seen[t.rec.Status] = true
	}
	for _, s := range []Status{Abort, Undoing, Undo, Doing, Do, Error, Undone, Hold} {
		if seen[s] {
			return s
		}
	}
	return Done
}
