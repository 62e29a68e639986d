// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fixture is a state in a file of its own, and a runner on it.
type fixture struct {
	t    *testing.T
	path string
	s    *State
	r    *Runner
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "state.db")}
	f.open(nil)
	return f
}

// open opens the file again.
func (f *fixture) open(hook func(string)) {
	f.t.Helper()
	s, err := Open(f.path, Options{FaultHook: hook, LockTimeout: 50 * time.Millisecond})
	if err != nil {
		f.t.Fatal(err)
	}
	f.s, f.r = s, NewRunner(s, nil)
	r := f.r
	f.t.Cleanup(func() {
		r.Stop()
		_ = s.Close()
	})
}

func (f *fixture) update(fn func(tx *Tx)) {
	f.t.Helper()
	if err := f.s.Update(func(tx *Tx) error { fn(tx); return nil }); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) view(fn func(tx *Tx)) {
	f.t.Helper()
	if err := f.s.View(func(tx *Tx) error { fn(tx); return nil }); err != nil {
		f.t.Fatal(err)
	}
}

// change makes a change of tasks whose kinds are the words.
func (f *fixture) change(build func(tx *Tx, c *Change)) (id string) {
	f.t.Helper()
	f.update(func(tx *Tx) {
		c := tx.NewChange("test", "A test")
		build(tx, c)
		id = c.ID()
	})
	return id
}

func (f *fixture) chain(kinds ...string) string {
	f.t.Helper()
	return f.change(func(tx *Tx, c *Change) { c.AddChain(0, newTasks(tx, kinds...)...) })
}

func newTasks(tx *Tx, kinds ...string) []*Task {
	tasks := make([]*Task, len(kinds))
	for i, k := range kinds {
		tasks[i] = tx.NewTask(k, "Task "+k)
	}
	return tasks
}

func (f *fixture) wait(id string) {
	f.t.Helper()
	f.waitFor(id, 30*time.Second)
}

func (f *fixture) waitFor(id string, d time.Duration) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), d)
	defer cancel()
	if err := f.s.WaitChange(ctx, id); err != nil {
		f.t.Fatal(err)
	}
}

// statuses gives "a:Done b:Error" for a change.
func (f *fixture) statuses(id string) string {
	f.t.Helper()
	var words []string
	f.view(func(tx *Tx) {
		for _, t := range tx.Change(id).Tasks() {
			words = append(words, t.Kind()+":"+string(t.Status()))
		}
	})
	return strings.Join(words, " ")
}

func (f *fixture) check(id string, status Status, tasks string) {
	f.t.Helper()
	f.view(func(tx *Tx) {
		if got := tx.Change(id).Status(); got != status {
			f.t.Errorf("change is %s, want %s", got, status)
		}
	})
	if got := f.statuses(id); got != tasks {
		f.t.Errorf("tasks are\n %s, want\n %s", got, tasks)
	}
}

// journal notes what handlers did.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, " ")
}

// note gives a handler that notes WHAT KIND.
func (j *journal) note(prefix string) Handler {
	return func(_ context.Context, t *Task) (Commit, error) {
		j.add("%s%s", prefix, t.Kind())
		return nil, nil
	}
}

// handle adds noting handlers, do and undo, for the kinds; kinds in failing
// fail instead of being done.
func (j *journal) handle(r *Runner, kinds string, failing string) {
	for _, k := range strings.Fields(kinds) {
		do := j.note("+")
		if strings.Contains(failing, k) {
			do = func(context.Context, *Task) (Commit, error) { return nil, errors.New("cannot " + k) }
		}
		r.AddHandler(k, do, j.note("-"))
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	type value struct{ A int }
	f.update(func(tx *Tx) {
		for _, k := range []string{"snap/b", "snap/a", "other"} {
			if err := tx.Set(k, value{len(k)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Delete("none"); err != nil {
			t.Error(err)
		}
	})
	f.s.Close()
	f.open(nil)
	f.view(func(tx *Tx) {
		var v value
		if err := tx.Get("snap/a", &v); err != nil || v.A != 6 {
			t.Errorf("got %v, %v", v, err)
		}
		if err := tx.Get("none", &v); !errors.Is(err, ErrNoState) {
			t.Errorf("got %v", err)
		}
		keys, err := tx.Keys("snap/")
		if err != nil || !reflect.DeepEqual(keys, []string{"snap/a", "snap/b"}) {
			t.Errorf("got %v, %v", keys, err)
		}
	})
	f.update(func(tx *Tx) { tx.Delete("snap/a") })
	f.view(func(tx *Tx) {
		if err := tx.Get("snap/a", new(value)); !errors.Is(err, ErrNoState) {
			t.Errorf("got %v", err)
		}
	})
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	wrong := errors.New("wrong")
	for name, fn := range map[string]func(tx *Tx) error{
		"error":      func(tx *Tx) error { tx.Set("k", 1); return wrong },
		"bad value":  func(tx *Tx) error { tx.Set("k", 1); tx.Set("l", func() {}); return nil },
		"bad change": func(tx *Tx) error { tx.Set("k", 1); tx.NewChange("a", "b").Set("x", make(chan int)); return nil },
		"empty key":  func(tx *Tx) error { tx.Set("k", 1); return tx.Set("", 1) },
	} {
		if err := f.s.Update(fn); err == nil {
			t.Errorf("%s: no error", name)
		}
		f.view(func(tx *Tx) {
			if err := tx.Get("k", new(int)); !errors.Is(err, ErrNoState) || len(tx.Changes()) != 0 {
				t.Errorf("%s: something was stored", name)
			}
		})
	}
	func() {
		defer func() { recover() }()
		f.s.Update(func(tx *Tx) error { tx.Set("k", 1); panic("oops") })
	}()
	f.update(func(tx *Tx) {
		if err := tx.Get("k", new(int)); !errors.Is(err, ErrNoState) {
			t.Error("a panic stored something")
		}
	})
}

func TestHandlesOutlived(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.s.View(func(tx *Tx) error { tx.Set("k", 1); return nil }); err == nil {
		t.Error("a View could write")
	}
	var c *Change
	f.update(func(tx *Tx) { c = tx.NewChange("a", "b"); c.Set("k", 1) })
	if c.Kind() != "a" || c.Status() != Hold {
		t.Error("cannot read a change after its transaction")
	}
	defer func() {
		if recover() == nil {
			t.Error("a change could be written after its transaction")
		}
	}()
	c.Set("k", 2)
}

func TestLocked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := Open(f.path, Options{LockTimeout: time.Millisecond})
	if !errors.Is(err, ErrLocked) || !strings.HasPrefix(err.Error(), "cannot open state "+f.path) {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.update(func(tx *Tx) { tx.put(bucketMeta, keyFormat, []byte("2")) })
	f.s.Close()
	if _, err := Open(f.path, Options{}); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("newer format: got %v", err)
	}
	garbage := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("garbage ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(garbage, Options{}); err == nil {
		t.Error("garbage was opened")
	}
	if err := f.s.Update(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
}

func TestMode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	fi, err := os.Stat(f.path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
}

func TestEmptyChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.change(func(_ *Tx, c *Change) { c.SetDone() })
	f.wait(id)
	f.check(id, Done, "")
	f.view(func(tx *Tx) {
		if c := tx.Change(id); c.ReadyTime().IsZero() || c.Err() != nil {
			t.Error("not ready, or an error")
		}
	})
}

func TestChangeData(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.change(func(_ *Tx, c *Change) {
		c.Set("snap-names", []string{"a", "b"})
		c.Set("gone", 1)
		c.Set("gone", nil)
	})
	f.view(func(tx *Tx) {
		c := tx.Change(id)
		var names []string
		if err := c.Get("snap-names", &names); err != nil || !reflect.DeepEqual(names, []string{"a", "b"}) {
			t.Errorf("got %v, %v", names, err)
		}
		if err := c.Get("gone", new(int)); !errors.Is(err, ErrNoState) {
			t.Errorf("got %v", err)
		}
		if err := c.Get("snap-names", new(int)); err == nil {
			t.Error("a list was read as a number")
		}
		if len(c.Data()) != 1 || c.Summary() != "A test" || c.SpawnTime().IsZero() {
			t.Errorf("got %s, %q, %v", c.Data(), c.Summary(), c.SpawnTime())
		}
	})
}

func TestRefusedTasks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var other string
	f.change(func(tx *Tx, c *Change) {
		task := tx.NewTask("a", "a")
		c.AddTask(task)
		other = task.ID()
	})
	for want, build := range map[string]func(tx *Tx, c *Change){
		"waits for itself": func(tx *Tx, c *Change) {
			ts := newTasks(tx, "a", "b")
			c.AddChain(0, ts...)
			ts[0].WaitFor(ts[1])
		},
		"not in its change": func(tx *Tx, c *Change) {
			task := tx.NewTask("a", "a")
			task.WaitFor(tx.Task(other))
			c.AddTask(task)
		},
		"elsewhere": func(tx *Tx, c *Change) { c.AddTask(tx.Task(other)) },
	} {
		err := f.s.Update(func(tx *Tx) error { build(tx, tx.NewChange("x", "x")); return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	f.update(func(tx *Tx) { tx.NewTask("dropped", "d"); tx.Set("k", 1) })
	f.view(func(tx *Tx) {
		if n := tx.b.Bucket(bucketTasks).Stats().KeyN; n != 1 {
			t.Errorf("%d tasks are stored, want 1", n)
		}
	})
}

func TestUnknownIDs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.view(func(tx *Tx) {
		for _, id := range []string{"", "1", "x", "-1", "01", "99999999999999999999999"} {
			if tx.Change(id) != nil || tx.Task(id) != nil {
				t.Errorf("%q was found", id)
			}
		}
	})
	if err := f.s.WaitChange(t.Context(), "7"); !errors.Is(err, ErrNoChange) {
		t.Errorf("got %v", err)
	}
}

func TestChangesInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 9 {
		f.change(func(*Tx, *Change) {})
	}
	f.update(func(tx *Tx) {
		for range 3 {
			tx.NewChange("x", "x")
		}
		var ids []string
		for _, c := range tx.Changes() {
			ids = append(ids, c.ID())
		}
		if got := strings.Join(ids, " "); got != "1 2 3 4 5 6 7 8 9 10 11 12" {
			t.Errorf("got %s", got)
		}
	})
}

// On a disk that is full the file can still grow.
func TestRoom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range 4 {
		err := s.Update(func(tx *Tx) error { return tx.Set(fmt.Sprint("key", n), strings.Repeat("x", room/2)) })
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if spare := st.Blocks*512 - st.Size; spare < room/4 {
			t.Errorf("%d bytes, and room for %d more", st.Size, spare)
		}
	}
}
