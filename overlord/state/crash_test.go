// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// world is what handlers act on: it survives a crash, and the state does not
// know it.
type world struct {
	mu     sync.Mutex
	things map[string]string
	points []string
}

// handlers act on the thing named by the task's kind: idempotent, found out
// from the world; what was there before is the undo record.
func (w *world) handlers(r *Runner, kinds []string, fails string) {
	for _, k := range kinds {
		r.AddHandler(k, func(_ context.Context, t *Task) (Commit, error) {
			if k == fails {
				return nil, errors.New("cannot " + k)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.things[k] = "new"
			return func(tx *Tx) error {
				return errors.Join(tx.Set("thing/"+k, "new"), tx.Task(t.ID()).SetUndo("old"))
			}, nil
		}, func(_ context.Context, t *Task) (Commit, error) {
			var old string
			if err := t.Undo(&old); err != nil {
				return nil, err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.things[k] = old
			return func(tx *Tx) error { return tx.Set("thing/"+k, old) }, nil
		})
	}
}

// life runs a daemon on the file until the change is ready, or until it
// crashes at the given point, the n-th that it comes to (-1: never). What the
// next daemon finds is returned as a path.
func (w *world) life(t *testing.T, path string, crash int, kinds []string, fails string) (next string, crashed bool) {
	t.Helper()
	next = path
	died := make(chan struct{})
	n := 0
	hook := func(point string) {
		w.points = append(w.points, point)
		if n++; n-1 != crash {
			return
		}
		// The disk as it is now; nothing of this life counts after it.
		raw, err := os.ReadFile(path)
		if err == nil {
			next = filepath.Join(t.TempDir(), "state.db")
			err = os.WriteFile(next, raw, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
		close(died)
		runtime.Goexit()
	}
	f := &fixture{t: t, path: path}
	f.open(hook)
	w.handlers(f.r, kinds, fails)
	var id string
	f.update(func(tx *Tx) {
		if all := tx.Changes(); len(all) > 0 {
			id = all[0].ID()
			return
		}
		c := tx.NewChange("test", "Test")
		c.AddChain(0, newTasks(tx, kinds...)...)
		id = c.ID()
	})
	f.r.Start(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.s.WaitChange(t.Context(), id) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-died:
	}
	f.r.Stop()
	select {
	case <-died: // maybe after the change was ready
		crashed = true
	default:
	}
	if err := f.s.Close(); err != nil {
		t.Error(err)
	}
	return next, crashed
}

// agree checks that status and record say the same on the disk.
func agree(t *testing.T, path string) (statuses string, record map[string]string) {
	t.Helper()
	f := &fixture{t: t, path: path}
	f.open(nil)
	defer f.s.Close()
	record = make(map[string]string)
	f.view(func(tx *Tx) {
		for _, task := range tx.Changes()[0].Tasks() {
			var thing string
			if err := tx.Get("thing/"+task.Kind(), &thing); err == nil {
				record[task.Kind()] = thing
			}
			want := ""
			switch task.Status() {
			case Done, Undo, Undoing:
				want = "new"
			case Undone:
				want = "old"
			}
			if thing != want {
				t.Errorf("%s is %s and %q is recorded", task.Kind(), task.Status(), thing)
			}
		}
	})
	return f.statuses("1"), record
}

// TestCrashAtEveryPoint runs a chain that succeeds and one that is undone, and
// crashes at every point of it, and at every other point of the life after.
func TestCrashAtEveryPoint(t *testing.T) {
	t.Parallel()
	kinds := []string{"a", "b", "c"}
	for _, fails := range []string{"", "c"} {
		t.Run("fails:"+fails, func(t *testing.T) {
			t.Parallel()
			calm := &world{things: make(map[string]string)}
			path := filepath.Join(t.TempDir(), "state.db")
			calm.life(t, path, -1, kinds, fails)
			wantStatuses, wantRecord := agree(t, path)
			want := "a:do:acted a:do:committed b:do:acted b:do:committed c:do:acted c:do:committed"
			if fails != "" {
				want = "a:do:acted a:do:committed b:do:acted b:do:committed c:do:failing c:do:failed b:undo:acted b:undo:committed a:undo:acted a:undo:committed"
			}
			if got := strings.Join(calm.points, " "); got != want {
				t.Fatalf("the points are\n %s, want\n %s", got, want)
			}
			for first := range calm.points {
				for second := -1; second < len(calm.points); second++ {
					name := fmt.Sprintf("%s+%d", calm.points[first], second)
					w := &world{things: make(map[string]string)}
					path, crashed := w.life(t, filepath.Join(t.TempDir(), "state.db"), first, kinds, fails)
					if !crashed {
						t.Fatalf("%s: did not crash", name)
					}
					agree(t, path)
					if path, crashed = w.life(t, path, second, kinds, fails); crashed {
						agree(t, path)
						path, _ = w.life(t, path, -1, kinds, fails)
					}
					statuses, record := agree(t, path)
					if statuses != wantStatuses || !maps.Equal(record, wantRecord) || !maps.Equal(w.things, calm.things) {
						t.Errorf("%s: ended with %s, record %v, world %v", name, statuses, record, w.things)
					}
					if second >= 0 && !crashed {
						break // the second life had no such point
					}
				}
			}
		})
	}
}

// BenchmarkChain runs changes of ten tasks; transactions/op counts the durable
// transactions, of two fdatasync calls each.
func BenchmarkChain(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "state.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := NewRunner(s, nil)
	r.AddHandler("a", nopHandler, nil)
	r.Start(b.Context())
	defer r.Stop()
	txid := func() (n int) {
		_ = s.View(func(tx *Tx) error { n = tx.b.ID(); return nil })
		return n
	}
	before := txid()
	for b.Loop() {
		var id string
		err := s.Update(func(tx *Tx) error {
			c := tx.NewChange("bench", "Bench")
			for range 10 {
				c.AddChain(0, tx.NewTask("a", "A"))
			}
			tasks := c.Tasks()
			for i := range tasks[1:] {
				tasks[i+1].WaitFor(tasks[i])
			}
			id = c.ID()
			return nil
		})
		if err == nil {
			err = s.WaitChange(b.Context(), id)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(txid()-before)/float64(b.N), "transactions/op")
}
