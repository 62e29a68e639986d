// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
)

// The buckets. Changes and tasks are stored under their number, big endian, so
// that they come in order; their bucket's sequence is the counter.
var (
	bucketMeta     = []byte("meta")
	bucketData     = []byte("data")
	bucketChanges  = []byte("changes")
	bucketTasks    = []byte("tasks")
	bucketWarnings = []byte("warnings")
	// bucketUnready has a key for each change that is not ready, so that they are
	// found without reading those that are.
	bucketUnready = []byte("unready")

	keyFormat = []byte("format")
)

// Tx is a transaction. It, and what is got from it, belongs to one goroutine
// and writes only until the function that it was given to returns. A value that
// cannot be stored and a record that cannot be read fail the whole transaction
// at its end, also if an error returned before was dropped.
type Tx struct {
	s       *State
	b       *bbolt.Tx
	done    bool
	err     error
	changes map[string]*Change // that were loaded or made; one handle each
	tasks   map[string]*Task
	dirty   bool
	touched map[string]bool
	warned  bool
	aborted []string
	after   []func(committed bool)
}

func newTx(s *State, b *bbolt.Tx) *Tx {
	return &Tx{
		s: s, b: b,
		changes: make(map[string]*Change),
		tasks:   make(map[string]*Task),
		touched: make(map[string]bool),
	}
}

// close ends the transaction without effect, unless it was settled before.
func (tx *Tx) close() {
	tx.settle(false)
	_ = tx.b.Rollback()
}

// settle tells those who asked how the transaction ended, while no other can
// begin to write.
func (tx *Tx) settle(committed bool) {
	tx.done = true
	for _, f := range tx.after {
		f(committed)
	}
	tx.after = nil
}

// fail makes the transaction fail at its end; the first error stays.
func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// mustWrite tells whether writing is possible. Writing in a View fails it;
// writing after the end is a bug that could go unseen, and panics.
func (tx *Tx) mustWrite() bool {
	if tx.done {
		panic("state: write after the end of the transaction")
	}
	if !tx.b.Writable() {
		tx.fail(errors.New("cannot write state in a View"))
		return false
	}
	return true
}

// Get reads the value under key into v, by its JSON. The error is ErrNoState
// when there is none.
func (tx *Tx) Get(key string, v any) error {
	return decodeEntry(key, tx.b.Bucket(bucketData).Get([]byte(key)), v)
}

// Set stores v, as JSON, under key, which is not empty.
func (tx *Tx) Set(key string, v any) error {
	if raw, ok := tx.encode(key, v); ok {
		tx.put(bucketData, []byte(key), raw)
	}
	return tx.err
}

// Delete removes the value under key, if there is one.
func (tx *Tx) Delete(key string) error {
	if tx.mustWrite() && tx.b.Bucket(bucketData).Get([]byte(key)) != nil {
		tx.remove(bucketData, []byte(key))
	}
	return tx.err
}

// Keys returns the keys that begin with prefix, sorted.
func (tx *Tx) Keys(prefix string) ([]string, error) {
	var keys []string
	c := tx.b.Bucket(bucketData).Cursor()
	for k, _ := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, _ = c.Next() {
		keys = append(keys, string(k))
	}
	return keys, tx.err
}

// NewChange makes a change. It needs tasks, or SetDone. Kind is verb-object,
// like refresh-snap; summary is for the user.
func (tx *Tx) NewChange(kind, summary string) *Change {
	c := &Change{tx: tx, dirty: true, rec: changeRecord{
		ID: tx.nextID(bucketChanges), Kind: kind, Summary: summary, Spawn: time.Now().UTC(),
	}}
	tx.changes[c.rec.ID] = c
	return c
}

// NewTask makes a task, which counts only once it was added to a change in the
// same transaction. Kind is verb-object and names its handlers.
func (tx *Tx) NewTask(kind, summary string) *Task {
	t := &Task{s: tx.s, tx: tx, dirty: true, fresh: true, rec: taskRecord{
		ID: tx.nextID(bucketTasks), Kind: kind, Summary: summary, Status: Do, Spawn: time.Now().UTC(),
	}}
	tx.tasks[t.rec.ID] = t
	return t
}

// Change returns the change of that ID, nil if there is none.
func (tx *Tx) Change(id string) *Change {
	if c, ok := tx.changes[id]; ok {
		return c
	}
	c := &Change{tx: tx}
	if !tx.load(bucketChanges, id, &c.rec) {
		return nil
	}
	tx.changes[id] = c
	return c
}

// Task returns the task of that ID, nil if there is none.
func (tx *Tx) Task(id string) *Task {
	if t, ok := tx.tasks[id]; ok {
		return t
	}
	t := &Task{s: tx.s, tx: tx}
	if !tx.load(bucketTasks, id, &t.rec) {
		return nil
	}
	tx.tasks[id] = t
	return t
}

// Changes returns all changes, oldest first.
func (tx *Tx) Changes() []*Change {
	var all []*Change
	ids := make(map[string]bool)
	c := tx.b.Bucket(bucketChanges).Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		id := strconv.FormatUint(binary.BigEndian.Uint64(k), 10)
		ids[id] = true
		if chg := tx.Change(id); chg != nil {
			all = append(all, chg)
		}
	}
	fresh := len(all)
	for id, chg := range tx.changes {
		if !ids[id] {
			all = append(all, chg)
		}
	}
	slices.SortFunc(all[fresh:], func(a, b *Change) int { return compareIDs(a.rec.ID, b.rec.ID) })
	return all
}

// Version differs between two transactions of View if the state may have
// changed between them. In Update it means nothing.
func (tx *Tx) Version() int { return tx.b.ID() }

// Unready returns the changes that are not ready, oldest first. Unlike Changes
// it does not read the others, of which there may be hundreds.
func (tx *Tx) Unready() []*Change {
	ids := make(map[string]bool)
	c := tx.b.Bucket(bucketUnready).Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		ids[strconv.FormatUint(binary.BigEndian.Uint64(k), 10)] = true
	}
	for id := range tx.changes {
		ids[id] = true
	}
	var out []*Change
	for id := range ids {
		if c := tx.Change(id); c != nil && !c.Ready() {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Change) int { return compareIDs(a.rec.ID, b.rec.ID) })
	return out
}

// index enters the change among those that are not ready, or takes it out.
func (tx *Tx) index(c *Change) {
	k, ok := recordKey(c.rec.ID)
	if !ok {
		return
	}
	there := tx.b.Bucket(bucketUnready).Get(k) != nil
	switch unready := c.rec.Ready.IsZero(); {
	case unready && !there:
		tx.put(bucketUnready, k, []byte{1})
	case !unready && there:
		tx.remove(bucketUnready, k)
	}
}

// flush writes what was changed through handles.
func (tx *Tx) flush() error {
	for _, t := range tx.tasks {
		if t.rec.Change == "" {
			continue
		}
		if t.dirty {
			tx.touched[t.rec.Change] = true
		}
	}
	for id := range tx.touched {
		if c := tx.Change(id); c != nil {
			if err := c.check(); err != nil {
				return err
			}
		}
	}
	for _, c := range tx.changes {
		c.refresh()
		if c.dirty {
			tx.touched[c.rec.ID] = true
			tx.store(bucketChanges, c.rec.ID, &c.rec)
			tx.index(c)
		}
	}
	for _, t := range tx.tasks {
		if t.dirty && t.rec.Change != "" {
			t.rec.Log = lastLines(slices.Concat(t.rec.Log, tx.takePending(t.rec.ID), t.lines))
			tx.store(bucketTasks, t.rec.ID, &t.rec)
		}
	}
	if tx.dirty {
		tx.flushLogs()
	}
	return tx.err
}

// flushLogs stores the log lines that other handlers have left in memory.
func (tx *Tx) flushLogs() {
	tx.s.mu.Lock()
	ids := slices.Collect(maps.Keys(tx.s.pending))
	tx.s.mu.Unlock()
	for _, id := range ids {
		switch t := tx.Task(id); {
		case t == nil:
			tx.takePending(id) // the task was pruned
		case !t.dirty:
			t.rec.Log = lastLines(slices.Concat(t.rec.Log, tx.takePending(id)))
			tx.store(bucketTasks, id, &t.rec)
		}
	}
}

// takePending gives the task's log lines that are only in memory, and forgets
// them when the transaction is durable.
func (tx *Tx) takePending(id string) []string {
	tx.s.mu.Lock()
	defer tx.s.mu.Unlock()
	lines := slices.Clone(tx.s.pending[id])
	if len(lines) > 0 {
		tx.after = append(tx.after, func(committed bool) {
			if committed {
				tx.s.dropPending(id, len(lines))
			}
		})
	}
	return lines
}

// nextID counts up the bucket's sequence.
func (tx *Tx) nextID(bucket []byte) string {
	if !tx.mustWrite() {
		return ""
	}
	n, err := tx.b.Bucket(bucket).NextSequence()
	if err != nil {
		tx.fail(fmt.Errorf("cannot count up %s: %w", bucket, err))
	}
	return strconv.FormatUint(n, 10)
}

func (tx *Tx) load(bucket []byte, id string, rec any) bool {
	k, ok := recordKey(id)
	if !ok {
		return false
	}
	if tx.done {
		panic("state: read after the end of the transaction")
	}
	raw := tx.b.Bucket(bucket).Get(k)
	if raw == nil {
		return false
	}
	if err := decode(raw, rec); err != nil {
		tx.fail(fmt.Errorf("cannot read %s %s from state: %w", bucket, id, err))
		return false
	}
	return true
}

func (tx *Tx) store(bucket []byte, id string, rec any) {
	k, _ := recordKey(id)
	if raw, ok := tx.encode(id, rec); ok {
		tx.put(bucket, k, raw)
	}
}

func (tx *Tx) put(bucket, key, raw []byte) {
	if !tx.mustWrite() {
		return
	}
	tx.dirty = true
	if err := tx.b.Bucket(bucket).Put(key, raw); err != nil {
		tx.fail(fmt.Errorf("cannot store %q in state: %w", key, err))
	}
}

func (tx *Tx) remove(bucket, key []byte) {
	if !tx.mustWrite() {
		return
	}
	tx.dirty = true
	if err := tx.b.Bucket(bucket).Delete(key); err != nil {
		tx.fail(fmt.Errorf("cannot delete %q from state: %w", key, err))
	}
}

func (tx *Tx) encode(key string, v any) ([]byte, bool) {
	raw, err := json.Marshal(v)
	if err != nil {
		tx.fail(fmt.Errorf("cannot store %q in state: %w", key, err))
		return nil, false
	}
	return raw, true
}

func decode(raw []byte, v any) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, v)
}

// decodeEntry is decode for a value that was asked for by key.
func decodeEntry(key string, raw []byte, v any) error {
	if raw == nil {
		return fmt.Errorf("cannot get %q: %w", key, ErrNoState)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("cannot get %q: %w", key, err)
	}
	return nil
}

// recordKey gives the key of a change or task; false if id is no ID, which
// may come from a user.
func recordKey(id string) ([]byte, bool) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != id {
		return nil, false
	}
	return binary.BigEndian.AppendUint64(nil, n), true
}

// compareIDs orders by number.
func compareIDs(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare([]byte(a), []byte(b))
}
