// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// maxLog is how many lines of a task's log are kept.
const maxLog = 10

// taskRecord is a task as it is stored.
type taskRecord struct {
	ID       string                     `json:"id"`
	Kind     string                     `json:"kind"`
	Summary  string                     `json:"summary"`
	Change   string                     `json:"change"`
	Status   Status                     `json:"status"`
	Waits    []string                   `json:"wait-tasks,omitempty"`
	Lanes    []int                      `json:"lanes,omitempty"`
	Data     map[string]json.RawMessage `json:"data,omitempty"`
	UndoData json.RawMessage            `json:"undo,omitempty"`
	Error    string                     `json:"error,omitzero"`
	Log      []string                   `json:"log,omitempty"`
	Spawn    time.Time                  `json:"spawn-time"`
	Ready    time.Time                  `json:"ready-time,omitzero"`
	DoTime   time.Duration              `json:"doing-time,omitzero"`
	UndoTime time.Duration              `json:"undoing-time,omitzero"`
}

// Task is one step of a change. One that was got from a transaction belongs to
// it. One that a handler is given is a copy without a transaction: it can be
// read, logged to and have its progress set by any goroutine, and Get reads
// what is stored by then; to write, take tx.Task(t.ID()) in the Commit.
type Task struct {
	s     *State
	tx    *Tx // nil in a handler
	rec   taskRecord
	dirty bool
	fresh bool     // made, or made to wait, in this transaction
	lines []string // logged in this transaction
}

// Progress is how far a task has come, in units of its own.
type Progress struct {
	Label string // what is counted, may be empty
	Done  int
	Total int // 1 if nothing is counted
}

// ID returns the task's number, in decimal.
func (t *Task) ID() string { return t.rec.ID }

// Kind names the handlers, like link-snap.
func (t *Task) Kind() string { return t.rec.Kind }

// Summary describes the task to the user.
func (t *Task) Summary() string { return t.rec.Summary }

// ChangeID returns the ID of the change that the task is in.
func (t *Task) ChangeID() string { return t.rec.Change }

// Status returns the status; in a handler that is Doing or Undoing.
func (t *Task) Status() Status { return t.rec.Status }

// SpawnTime returns when the task was made.
func (t *Task) SpawnTime() time.Time { return t.rec.Spawn }

// ReadyTime returns when the task became ready, zero if it is not.
func (t *Task) ReadyTime() time.Time { return t.rec.Ready }

// DoingTime returns how long the do handler took to end, not counting attempts
// that a crash cut off or that asked for a Retry.
func (t *Task) DoingTime() time.Duration { return t.rec.DoTime }

// UndoingTime is DoingTime for the undo handler.
func (t *Task) UndoingTime() time.Duration { return t.rec.UndoTime }

// Lanes returns the lanes that the task has joined, or lane 0.
func (t *Task) Lanes() []int {
	if len(t.rec.Lanes) == 0 {
		return []int{0}
	}
	return slices.Clone(t.rec.Lanes)
}

// JoinLane puts the task into a lane, and out of lane 0 if it was in that by
// default. A task may join several: it is turned back when all have failed.
func (t *Task) JoinLane(lane int) {
	if t.mustWrite() && !slices.Contains(t.rec.Lanes, lane) {
		t.rec.Lanes = append(t.rec.Lanes, lane)
	}
}

// WaitFor has the task begin only after the others are done, and be undone
// before they are. They end up in the same change.
func (t *Task) WaitFor(others ...*Task) {
	for _, o := range others {
		if t.mustWrite() && !slices.Contains(t.rec.Waits, o.rec.ID) {
			t.rec.Waits = append(t.rec.Waits, o.rec.ID)
			t.fresh = true
		}
	}
}

// WaitTasks returns the IDs of the tasks that this one waits for.
func (t *Task) WaitTasks() []string { return slices.Clone(t.rec.Waits) }

// Get reads the task's value under key into v, by its JSON. The error is
// ErrNoState when there is none.
func (t *Task) Get(key string, v any) error {
	rec, err := t.stored()
	if err != nil {
		return err
	}
	return decodeEntry(key, rec.Data[key], v)
}

// Set stores v, as JSON, with the task; nil removes the key.
func (t *Task) Set(key string, v any) error {
	if t.mustWrite() {
		t.tx.setEntry(&t.rec.Data, key, v)
	}
	return t.tx.err
}

// Undo reads the task's undo record into v, by its JSON. The error is
// ErrNoState when there is none.
func (t *Task) Undo(v any) error {
	rec, err := t.stored()
	if err != nil {
		return err
	}
	return decodeEntry("undo", rec.UndoData, v)
}

// SetUndo stores v, as JSON, as the task's one undo record: all that its undo
// handler needs to know of what was there before.
func (t *Task) SetUndo(v any) error {
	if t.mustWrite() {
		if raw, ok := t.tx.encode("undo", v); ok {
			t.rec.UndoData = raw
		}
	}
	return t.tx.err
}

// Err returns why the task failed, "" if it has not.
func (t *Task) Err() string { return t.rec.Error }

// Log adds a line to the task's log, of which the last ten are kept. From a
// handler it is durable with the next transaction, whosesoever that is.
func (t *Task) Log(format string, args ...any) {
	t.logLine("INFO", fmt.Sprintf(format, args...))
}

// Debug is Log for what only somebody who looks for it wants to see.
func (t *Task) Debug(format string, args ...any) {
	t.logLine("DEBUG", fmt.Sprintf(format, args...))
}

func (t *Task) logLine(level, text string) {
	line := time.Now().UTC().Format(time.RFC3339) + " " + level + " " + text
	if t.tx != nil {
		if t.mustWrite() {
			t.lines = append(t.lines, line)
		}
		return
	}
	t.s.mu.Lock()
	t.s.pending[t.rec.ID] = append(t.s.pending[t.rec.ID], line)
	t.s.mu.Unlock()
	t.s.publish(&published{moved: t.rec.Change})
}

// LogLines returns the lines of the log, oldest first, each "TIME LEVEL TEXT" with
// an RFC 3339 time and DEBUG, INFO or ERROR.
func (t *Task) LogLines() []string {
	rec, _ := t.stored()
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return lastLines(slices.Concat(rec.Log, t.s.pending[t.rec.ID], t.lines))
}

// SetProgress says how far the task has come. It is kept in memory only.
func (t *Task) SetProgress(label string, done, total int) {
	p := Progress{label, done, total}
	t.s.mu.Lock()
	same := t.s.progress[t.rec.ID] == p
	t.s.progress[t.rec.ID] = p
	t.s.mu.Unlock()
	if !same {
		t.s.publish(&published{moved: t.rec.Change})
	}
}

// Progress returns how far the task has come: what was set last while it runs,
// otherwise 0 of 1 before, and 1 of 1 after.
func (t *Task) Progress() Progress {
	if t.rec.Status.Ready() {
		return Progress{Done: 1, Total: 1}
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if p, ok := t.s.progress[t.rec.ID]; ok {
		return p
	}
	return Progress{Total: 1}
}

// stored gives the record to read: the transaction's, or the newest.
func (t *Task) stored() (taskRecord, error) {
	if t.tx != nil {
		return t.rec, nil
	}
	rec := t.rec
	err := t.s.View(func(tx *Tx) error {
		if now := tx.Task(t.rec.ID); now != nil {
			rec = now.rec
		}
		return nil
	})
	return rec, err
}

// mustWrite marks the task as changed and tells whether it may be.
func (t *Task) mustWrite() bool {
	if t.tx == nil {
		panic("state: a handler's task cannot be written; take tx.Task(t.ID()) in the commit")
	}
	if !t.tx.mustWrite() {
		return false
	}
	t.dirty = true
	return true
}

func (t *Task) setStatus(s Status) {
	if !t.mustWrite() || t.rec.Status == s {
		return
	}
	t.rec.Status = s
	t.rec.Ready = time.Time{}
	if s.Ready() {
		t.rec.Ready = time.Now().UTC()
	}
}

func lastLines(lines []string) []string {
	return slices.Clone(lines[max(0, len(lines)-maxLog):])
}

// dropPending forgets the first n log lines of a task: they are stored.
func (s *State) dropPending(id string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[id] = s.pending[id][n:]; len(s.pending[id]) == 0 {
		delete(s.pending, id)
	}
}

// dropProgress forgets a task's progress: it has ended.
func (s *State) dropProgress(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.progress, id)
}
