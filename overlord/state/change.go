// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// changeRecord is a change as it is stored. Status is that of its tasks, kept
// here so that a list of changes need not read them all.
type changeRecord struct {
	ID      string                     `json:"id"`
	Kind    string                     `json:"kind"`
	Summary string                     `json:"summary"`
	Status  Status                     `json:"status"`
	Forced  bool                       `json:"set-done,omitzero"`
	Tasks   []string                   `json:"tasks,omitempty"`
	Data    map[string]json.RawMessage `json:"data,omitempty"`
	Spawn   time.Time                  `json:"spawn-time"`
	Ready   time.Time                  `json:"ready-time,omitzero"`
}

// Change is a request and the tasks that carry it out. It belongs to the
// transaction that it was got from.
type Change struct {
	tx    *Tx
	rec   changeRecord
	dirty bool
}

// ID returns the change's number, in decimal.
func (c *Change) ID() string { return c.rec.ID }

// Kind returns what sort of change it is, like refresh-snap.
func (c *Change) Kind() string { return c.rec.Kind }

// Summary describes the change to the user.
func (c *Change) Summary() string { return c.rec.Summary }

// SpawnTime returns when the change was made.
func (c *Change) SpawnTime() time.Time { return c.rec.Spawn }

// ReadyTime returns when the change became ready, zero if it is not.
func (c *Change) ReadyTime() time.Time { return c.rec.Ready }

// Ready tells whether nothing more will happen by itself.
func (c *Change) Ready() bool { return c.Status().Ready() }

// Status puts the tasks' statuses together: of Abort, Undoing, Undo, Doing, Do,
// Error, Undone, Hold the first that a task has, and Done if none has. Without
// tasks it is Done after SetDone, else Hold.
func (c *Change) Status() Status {
	if c.tx.done || !c.tx.b.Writable() {
		return c.rec.Status
	}
	switch {
	case len(c.rec.Tasks) > 0:
		return combine(c.Tasks())
	case c.rec.Forced:
		return Done
	}
	return Hold
}

// Tasks returns the tasks in the order in which they were added.
func (c *Change) Tasks() []*Task {
	tasks := make([]*Task, 0, len(c.rec.Tasks))
	for _, id := range c.rec.Tasks {
		if t := c.tx.Task(id); t != nil {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// AddTask adds tasks that are in no change yet.
func (c *Change) AddTask(tasks ...*Task) {
	for _, t := range tasks {
		if t.tx != c.tx || t.rec.Change != "" {
			c.tx.fail(fmt.Errorf("cannot add task %s to change %s: it is elsewhere already", t.rec.ID, c.rec.ID))
			continue
		}
		t.rec.Change = c.rec.ID
		t.dirty = true
		c.rec.Tasks = append(c.rec.Tasks, t.rec.ID)
		c.dirty = true
	}
}

// AddChain adds tasks of which each waits for the one before it, in the given
// lane. Lane 0 is where tasks are by default; other numbers are the caller's
// and mean something within the change only.
func (c *Change) AddChain(lane int, tasks ...*Task) {
	for i, t := range tasks {
		if lane != 0 {
			t.JoinLane(lane)
		}
		if i > 0 {
			t.WaitFor(tasks[i-1])
		}
	}
	c.AddTask(tasks...)
}

// SetDone makes a change without tasks Done: there was nothing to do.
func (c *Change) SetDone() {
	c.rec.Forced = true
	c.dirty = true
}

// Get reads the change's value under key into v, by its JSON. The error is
// ErrNoState when there is none.
func (c *Change) Get(key string, v any) error { return decodeEntry(key, c.rec.Data[key], v) }

// Set stores v, as JSON, with the change; nil removes the key.
func (c *Change) Set(key string, v any) error {
	if c.tx.mustWrite() {
		c.tx.setEntry(&c.rec.Data, key, v)
		c.dirty = true
	}
	return c.tx.err
}

// Data returns all values as JSON, by key. It is not to be changed.
func (c *Change) Data() map[string]json.RawMessage { return c.rec.Data }

// Err says which tasks failed and why, if the change ended in Error:
//
//	cannot perform the following tasks:
//	- SUMMARY (REASON)
func (c *Change) Err() error {
	if c.Status() != Error {
		return nil
	}
	var b strings.Builder
	b.WriteString("cannot perform the following tasks:")
	for _, t := range c.Tasks() {
		if t.rec.Status == Error {
			fmt.Fprintf(&b, "\n- %s (%s)", t.rec.Summary, t.rec.Error)
		}
	}
	return errors.New(b.String())
}

// refresh brings the stored status up to date with the tasks.
func (c *Change) refresh() {
	if !c.tx.touched[c.rec.ID] && !c.dirty {
		return
	}
	status := c.Status()
	if status == c.rec.Status && status.Ready() == !c.rec.Ready.IsZero() {
		return
	}
	c.rec.Status = status
	switch {
	case !status.Ready():
		c.rec.Ready = time.Time{}
	case c.rec.Ready.IsZero():
		c.rec.Ready = time.Now().UTC()
	}
	c.dirty = true
}

// check refuses tasks that could never run: those that wait for tasks of
// another change, for tasks that were dropped, or in a circle.
func (c *Change) check() error {
	tasks := c.Tasks()
	if !slices.ContainsFunc(tasks, func(t *Task) bool { return t.fresh }) {
		return nil
	}
	const entered, left = 1, 2
	seen := make(map[string]int)
	var visit func(t *Task) error
	visit = func(t *Task) error {
		switch seen[t.rec.ID] {
		case entered:
			return fmt.Errorf("cannot add task %s (%s): it waits for itself", t.rec.ID, t.rec.Kind)
		case left:
			return nil
		}
		seen[t.rec.ID] = entered
		for _, id := range t.rec.Waits {
			w := c.tx.Task(id)
			if w == nil || w.rec.Change != c.rec.ID {
				return fmt.Errorf("cannot add task %s (%s): it waits for task %s, which is not in its change", t.rec.ID, t.rec.Kind, id)
			}
			if err := visit(w); err != nil {
				return err
			}
		}
		seen[t.rec.ID] = left
		return nil
	}
	for _, t := range tasks {
		if err := visit(t); err != nil {
			return err
		}
	}
	return nil
}

// setEntry stores v under key in a record's data.
func (tx *Tx) setEntry(data *map[string]json.RawMessage, key string, v any) {
	if v == nil {
		delete(*data, key)
		return
	}
	raw, ok := tx.encode(key, v)
	if !ok {
		return
	}
	if *data == nil {
		*data = make(map[string]json.RawMessage)
	}
	(*data)[key] = raw
}
