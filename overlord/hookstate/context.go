// SPDX-License-Identifier: Apache-2.0

package hookstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"endured/overlord/configstate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// wishes are what the hooks of one task asked for. Services that such a task
// has started see them, and add to them, before they count.
type wishes struct {
	// Values are options to set, by dotted key; null unsets.
	Values map[string]any       `json:"values,omitempty"`
	Queue  []*snapstate.Control `json:"queue,omitempty"`
	Health *snapstate.Health    `json:"health,omitempty"`
	// Ended tells that the hooks have: services may be running.
	Ended bool `json:"ended,omitempty"`
}

// undo is what a task changed.
type undo struct {
	Config json.RawMessage   `json:"config,omitempty"`
	Health *snapstate.Health `json:"health,omitempty"`
}

// maxQueue is how much a task's hooks may ask for.
const maxQueue = 64

const wishesKey = "hook-wishes/"

func keyOf(snapName, task string) string { return wishesKey + snapName + "/" + task }

// wishesOf returns what the hooks of a task asked for so far, nil if nothing.
func wishesOf(tx *state.Tx, snapName, task string) (*wishes, error) {
	var raw json.RawMessage
	err := tx.Get(keyOf(snapName, task), &raw)
	if errors.Is(err, state.ErrNoState) {
		return nil, nil
	}
	var w wishes
	if err == nil {
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		err = d.Decode(&w)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what hooks of snap %q asked for: %w", snapName, err)
	}
	return &w, nil
}

// set adds values. One takes the place of what is at and below its key.
func (w *wishes) set(values map[string]any) {
	if w.Values == nil {
		w.Values = map[string]any{}
	}
	for key, v := range values {
		for k := range w.Values {
			if strings.HasPrefix(k, key+".") {
				delete(w.Values, k)
			}
		}
		w.Values[key] = v
	}
}

const begunKey = "begun"

// begin notes, before the hook of a task runs, that it does, and the values that
// the task comes with. again tells that this was noted before.
func (m *Manager) begin(snapName, task string, values map[string]any) (again bool, err error) {
	err = m.State.Update(func(tx *state.Tx) error {
		t := tx.Task(task)
		if t == nil {
			return fmt.Errorf("cannot find task %s", task)
		}
		again = false
		if err := t.Get(begunKey, &again); err != nil && !errors.Is(err, state.ErrNoState) {
			return err
		}
		if again {
			return nil
		}
		if err := t.Set(begunKey, true); err != nil || len(values) == 0 {
			return err
		}
		w := &wishes{}
		w.set(values)
		return tx.Set(keyOf(snapName, task), w)
	})
	return again, err
}

// ended notes that the hooks of a switch are done: what they set is there for
// the services.
func (m *Manager) ended(snapName, task string) error {
	there := false
	err := m.State.View(func(tx *state.Tx) error {
		w, err := wishesOf(tx, snapName, task)
		there = w != nil && !w.Ended
		return err
	})
	if err != nil || !there {
		return err
	}
	return m.State.Update(func(tx *state.Tx) error {
		w, err := wishesOf(tx, snapName, task)
		if err != nil || w == nil {
			return err
		}
		w.Ended = true
		return tx.Set(keyOf(snapName, task), w)
	})
}

// forget drops what the hooks of a task asked for.
func (m *Manager) forget(snapName, task string) error {
	there := false
	err := m.State.View(func(tx *state.Tx) error {
		w, err := wishesOf(tx, snapName, task)
		there = w != nil
		return err
	})
	if err != nil || !there {
		return err
	}
	return m.State.Update(func(tx *state.Tx) error { return drop(tx, snapName, task) })
}

func drop(tx *state.Tx, snapName, task string) error { return tx.Delete(keyOf(snapName, task)) }

// sweep drops what is left of tasks that have ended.
func (m *Manager) sweep() error {
	var left []string
	find := func(tx *state.Tx) error {
		keys, err := tx.Keys(wishesKey)
		left = nil
		for _, k := range keys {
			if _, task, _ := strings.Cut(strings.TrimPrefix(k, wishesKey), "/"); !atWork(tx, task) {
				left = append(left, k)
			}
		}
		return err
	}
	if err := m.State.View(find); err != nil || len(left) == 0 {
		return err
	}
	return m.State.Update(func(tx *state.Tx) error {
		if err := find(tx); err != nil {
			return err
		}
		for _, k := range left {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Commit makes what the hooks of a task asked for count, in the transaction
// that marks the task done. What was asked of services is added to the change,
// behind all that it does.
func (m *Manager) Commit(tx *state.Tx, taskID string) error {
	t := tx.Task(taskID)
	if t == nil {
		return fmt.Errorf("cannot find task %s", taskID)
	}
	name, err := snapstate.SnapOf(t)
	if err != nil {
		return err
	}
	w, err := wishesOf(tx, name, taskID)
	if err != nil || w == nil {
		return err
	}
	rec, err := snapstate.Get(tx, name)
	if err != nil {
		return err
	}
	if t.Kind() == "run-hook" {
		if err := t.SetUndo(undo{Config: rec.Config, Health: rec.Health}); err != nil {
			return err
		}
	}
	if rec.Config, err = applied(rec.Config, name, w.Values); err != nil {
		return err
	}
	if w.Health != nil {
		rec.Health = w.Health
	}
	if err := snapstate.Put(tx, rec); err != nil {
		return err
	}
	if err := queue(tx, t, w.Queue); err != nil {
		return err
	}
	return drop(tx, name, taskID)
}

func applied(raw json.RawMessage, snapName string, values map[string]any) (json.RawMessage, error) {
	if len(values) == 0 {
		return raw, nil
	}
	o, err := configstate.ReadOptions(raw)
	if err != nil {
		return nil, err
	}
	if o, err = o.Apply(snapName, values); err != nil {
		return nil, err
	}
	return o.Raw()
}

// queue adds tasks that control services to a task's change: in its lane,
// behind all that is in it.
func queue(tx *state.Tx, t *state.Task, list []*snapstate.Control) error {
	if len(list) == 0 {
		return nil
	}
	c := tx.Change(t.ChangeID())
	lane := t.Lanes()[0]
	before := append([]*state.Task(nil), c.Tasks()...)
	var added []*state.Task
	for _, ctl := range list {
		next, err := snapstate.ControlTask(tx, ctl)
		if err != nil {
			return err
		}
		added = append(added, next)
	}
	for _, b := range before {
		if b.Lanes()[0] == lane {
			added[0].WaitFor(b)
		}
	}
	c.AddChain(lane, added...)
	return nil
}

// checkedHealth is what is known of a snap's health after its check-health.
func checkedHealth(tx *state.Tx, snapName, task string, rev snap.Revision, failed bool) error {
	w, err := wishesOf(tx, snapName, task)
	if err != nil {
		return err
	}
	if w == nil {
		w = &wishes{}
	}
	switch {
	case failed:
		w.Health = &snapstate.Health{Status: "error", Code: "snapd-hook-failed", Message: "the check-health hook failed"}
	case w.Health == nil:
		w.Health = &snapstate.Health{Status: "unknown", Code: "snapd-hook-no-health-set", Message: "the check-health hook set no health"}
	default:
		return nil
	}
	w.Health.Revision, w.Health.Timestamp = rev, time.Now().UTC()
	return tx.Set(keyOf(snapName, task), w)
}

// options are a snap's options as one of its programs sees them: a hook with
// what its own task has set so far, another with what the hooks before it have.
func options(tx *state.Tx, snapName, task string) (configstate.Options, error) {
	var raw json.RawMessage
	rec, err := snapstate.Get(tx, snapName)
	var missing *snapstate.NotInstalledError
	switch {
	case errors.As(err, &missing):
	case err != nil:
		return nil, err
	default:
		raw = rec.Config
	}
	o, err := configstate.ReadOptions(raw)
	if err != nil {
		return nil, err
	}
	if task == "" {
		if task, err = serving(tx, snapName); err != nil || task == "" {
			return o, err
		}
	}
	w, err := wishesOf(tx, snapName, task)
	if err != nil || w == nil {
		return o, err
	}
	return o.Apply(snapName, w.Values)
}

// serving returns the task of the switch whose hooks have ended and whose
// services may be running, "" if there is none.
func serving(tx *state.Tx, snapName string) (string, error) {
	keys, err := tx.Keys(wishesKey + snapName + "/")
	if err != nil {
		return "", err
	}
	for _, k := range keys {
		task := strings.TrimPrefix(k, wishesKey+snapName+"/")
		w, err := wishesOf(tx, snapName, task)
		if err != nil {
			return "", err
		}
		if w != nil && w.Ended && atWork(tx, task) {
			return task, nil
		}
	}
	return "", nil
}

// installing returns the task of the switch that brings a snap that is not
// installed yet, "" if there is none.
func installing(tx *state.Tx, snapName string) string {
	for _, c := range tx.Unready() {
		for _, t := range c.Tasks() {
			name, err := snapstate.SnapOf(t)
			if err == nil && name == snapName && t.Kind() == "switch-snap" && t.Status() == state.Doing {
				return t.ID()
			}
		}
	}
	return ""
}

// change lets f change what a program asks for: it is kept with the hook's
// task, or with the switch that has started the program, or counts at once.
func (m *Manager) change(snapName, task string, f func(w *wishes) error) error {
	return m.State.Update(func(tx *state.Tx) error {
		var err error
		if task != "" && !atWork(tx, task) {
			return errors.New("cannot change anything: the hook's task has ended")
		}
		if task == "" {
			if task, err = serving(tx, snapName); err != nil {
				return err
			}
		}
		rec, err := snapstate.Get(tx, snapName)
		var missing *snapstate.NotInstalledError
		ended := false
		switch {
		case errors.As(err, &missing) && task == "":
			if task = installing(tx, snapName); task == "" {
				return err
			}
			ended = true // a service runs: the hooks are done
		case err != nil && !errors.As(err, &missing):
			return err
		}
		if task == "" {
			return now(tx, rec, f)
		}
		w, err := wishesOf(tx, snapName, task)
		if err != nil {
			return err
		}
		if w == nil {
			w = &wishes{Ended: ended}
		}
		if err := f(w); err != nil {
			return err
		}
		if err := fits(tx, snapName, w); err != nil {
			return err
		}
		return tx.Set(keyOf(snapName, task), w)
	})
}

// fits tells, while there is somebody to tell, whether the options can be set.
func fits(tx *state.Tx, snapName string, w *wishes) error {
	var raw json.RawMessage
	if rec, err := snapstate.Get(tx, snapName); err == nil {
		raw = rec.Config
	}
	_, err := applied(raw, snapName, w.Values)
	return err
}

// now changes the record itself.
func now(tx *state.Tx, rec *snapstate.Record, f func(w *wishes) error) error {
	w := &wishes{}
	err := f(w)
	if err != nil {
		return err
	}
	if rec.Config, err = applied(rec.Config, rec.Name, w.Values); err != nil {
		return err
	}
	if w.Health != nil {
		rec.Health = w.Health
	}
	return snapstate.Put(tx, rec)
}
