// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// taskSpec is a task of a test; its kind is a, b, c, … by where it stands.
type taskSpec struct {
	waits string // kinds
	lanes []int
}

func buildTasks(tx *Tx, specs []taskSpec) []*Task {
	var tasks []*Task
	for i, spec := range specs {
		task := tx.NewTask(string(rune('a'+i)), "Task")
		for _, w := range spec.waits {
			task.WaitFor(tasks[w-'a'])
		}
		for _, l := range spec.lanes {
			task.JoinLane(l)
		}
		tasks = append(tasks, task)
	}
	return tasks
}

// TestGraphs runs changes of tasks a, b, c, …; those in fails fail.
func TestGraphs(t *testing.T) {
	t.Parallel()
	type task = taskSpec
	for _, test := range []struct {
		summary string
		tasks   []taskSpec // a, b, c, …
		fails   string
		status  Status
		want    string
		journal string // "" if it is not looked at
	}{{
		summary: "a chain",
		tasks:   []task{{}, {waits: "a"}, {waits: "b"}},
		status:  Done, want: "a:Done b:Done c:Done", journal: "+a +b +c",
	}, {
		summary: "a chain that fails is undone from its end",
		tasks:   []task{{}, {waits: "a"}, {waits: "b"}, {waits: "c"}},
		fails:   "c",
		status:  Error, want: "a:Undone b:Undone c:Error d:Hold", journal: "+a +b -b -a",
	}, {
		summary: "the first task fails",
		tasks:   []task{{}, {waits: "a"}},
		fails:   "a",
		status:  Error, want: "a:Error b:Hold", journal: "",
	}, {
		summary: "a diamond is undone against its edges",
		tasks:   []task{{}, {waits: "a"}, {waits: "b"}, {waits: "ac"}, {waits: "d"}},
		fails:   "e",
		status:  Error, want: "a:Undone b:Undone c:Undone d:Undone e:Error", journal: "+a +b +c +d -d -c -b -a",
	}, {
		summary: "lanes fail on their own",
		tasks:   []task{{lanes: []int{1}}, {lanes: []int{1}, waits: "a"}, {lanes: []int{2}, waits: "b"}, {lanes: []int{3}}},
		fails:   "b",
		status:  Error, want: "a:Undone b:Error c:Hold d:Done",
	}, {
		summary: "what is also in a live lane stays",
		tasks:   []task{{lanes: []int{1, 2}}, {lanes: []int{1}, waits: "a"}, {lanes: []int{2}, waits: "a"}},
		fails:   "b",
		status:  Error, want: "a:Done b:Error c:Done",
	}, {
		summary: "a task in two lanes fails both",
		tasks:   []task{{lanes: []int{1}}, {lanes: []int{2}, waits: "a"}, {lanes: []int{1, 2}, waits: "b"}, {lanes: []int{2}, waits: "c"}},
		fails:   "c",
		status:  Error, want: "a:Undone b:Undone c:Error d:Hold", journal: "+a +b -b -a",
	}, {
		summary: "when the second lane fails too, what was shared is undone",
		tasks:   []task{{lanes: []int{1, 2}}, {lanes: []int{1}, waits: "a"}, {lanes: []int{2}, waits: "a"}},
		fails:   "bc",
		status:  Error, want: "a:Undone b:Error c:Error",
	}, {
		summary: "a dependant is turned back with the lanes it is in",
		tasks:   []task{{lanes: []int{1}}, {lanes: []int{2}}, {lanes: []int{2}, waits: "ab"}, {lanes: []int{3}, waits: "c"}},
		fails:   "a",
		status:  Error, want: "a:Error b:Undone c:Hold d:Hold",
	}} {
		t.Run(test.summary, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			var j journal
			for i := range test.tasks {
				kind := string(rune('a' + i))
				f.r.AddHandler(kind, func(_ context.Context, task *Task) (Commit, error) {
					if strings.Contains(test.fails, kind) {
						return nil, errors.New("cannot " + kind)
					}
					j.add("+%s", kind)
					return nil, nil
				}, j.note("-"))
			}
			id := f.change(func(tx *Tx, c *Change) { c.AddTask(buildTasks(tx, test.tasks)...) })
			f.r.Start(t.Context())
			f.wait(id)
			got := f.statuses(id)
			if got != test.want {
				t.Errorf("got\n %s, want\n %s", got, test.want)
			}
			if test.journal != "" && j.String() != test.journal {
				t.Errorf("got %s, want %s", &j, test.journal)
			}
			f.view(func(tx *Tx) {
				c := tx.Change(id)
				if c.Status() != test.status || (c.Err() != nil) != (test.status == Error) {
					t.Errorf("change is %s, %v", c.Status(), c.Err())
				}
			})
		})
	}
}

// TestRandomGraphs checks the order of what is done and undone.
func TestRandomGraphs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			f := newFixture(t)
			var j journal
			const n = 9
			fails := 1 + rnd.IntN(n-1)
			specs := make([]taskSpec, n)
			for i := range n {
				h := j.note("+")
				if i == fails {
					h = func(context.Context, *Task) (Commit, error) { return nil, errors.New("cannot") }
				}
				f.r.AddHandler(string(rune('a'+i)), h, j.note("-"))
				for k := range i {
					if rnd.IntN(3) == 0 {
						specs[i].waits += string(rune('a' + k))
					}
				}
			}
			id := f.change(func(tx *Tx, c *Change) { c.AddTask(buildTasks(tx, specs)...) })
			f.r.Start(t.Context())
			f.wait(id)
			events := strings.Fields(j.String())
			at := func(sign string, kind rune) int { return slices.Index(events, sign+string(kind)) }
			for i := 'a'; i < 'a'+n; i++ {
				if (at("+", i) >= 0) != (at("-", i) >= 0) {
					t.Errorf("%c was done and not undone, or the reverse: %v", i, events)
				}
				for _, k := range specs[i-'a'].waits {
					if at("+", i) >= 0 && (at("+", k) < 0 || at("+", i) < at("+", k) || at("-", i) > at("-", k)) {
						t.Errorf("%c waits for %c: %v", i, k, events)
					}
				}
			}
		})
	}
}

func TestTasksRunTogether(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	met := make(chan struct{})
	f.r.AddHandler("a", func(context.Context, *Task) (Commit, error) { met <- struct{}{}; return nil, nil }, nil)
	f.r.AddHandler("b", func(context.Context, *Task) (Commit, error) { <-met; return nil, nil }, nil)
	f.r.Start(t.Context())
	id := f.change(func(tx *Tx, c *Change) { c.AddTask(newTasks(tx, "a", "b")...) })
	f.wait(id)
	f.check(id, Done, "a:Done b:Done")
}

// copyState opens a copy of the file, as it is on the disk now.
func copyState(t *testing.T, path string) *State {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestIntent looks at the disk from inside of handlers.
func TestIntent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	look := func(want string) Handler {
		return func(_ context.Context, task *Task) (Commit, error) {
			copied := &fixture{t: t, s: copyState(t, f.path)}
			if got := copied.statuses(task.ChangeID()); got != want {
				t.Errorf("the disk says %s, want %s", got, want)
			}
			return nil, nil
		}
	}
	f.r.AddHandler("a", look("a:Doing b:Do c:Do"), look("a:Undoing b:Undone c:Error"))
	f.r.AddHandler("b", look("a:Done b:Doing c:Do"), look("a:Undo b:Undoing c:Error"))
	f.r.AddHandler("c", func(context.Context, *Task) (Commit, error) { return nil, errors.New("cannot") }, nil)
	f.r.Start(t.Context())
	id := f.chain("a", "b", "c")
	f.wait(id)
	f.check(id, Error, "a:Undone b:Undone c:Error")
}

// TestTransactions counts durable transactions: n+1 for a chain of n.
func TestTransactions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	j.handle(f.r, "a b c d e", "e")
	txid := func() (n int) {
		f.view(func(tx *Tx) { n = tx.b.ID() })
		return n
	}
	f.r.Start(t.Context())
	before := txid()
	f.wait(f.chain("a", "b", "c", "d"))
	if got := txid() - before; got != 1+5 {
		t.Errorf("a chain of 4 cost %d transactions, want 1 to make and 5 to run it", got)
	}
	before = txid()
	f.wait(f.chain("a", "b", "c", "e"))
	if got := txid() - before; got != 1+5+3 {
		t.Errorf("a chain of 4 that fails cost %d transactions, want 9", got)
	}
	before = txid()
	f.r.Ensure()
	f.update(func(*Tx) {})
	if got := txid() - before; got != 0 {
		t.Errorf("an empty update cost %d transactions", got)
	}
}

func TestCommitAndUndoRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	type record struct{ Was string }
	f.r.AddHandler("a", func(_ context.Context, task *Task) (Commit, error) {
		var param string
		if err := task.Get("param", &param); err != nil || param != "p" {
			t.Errorf("got %q, %v", param, err)
		}
		if err := task.Undo(new(record)); !errors.Is(err, ErrNoState) {
			t.Errorf("an undo record before it was made: %v", err)
		}
		return func(tx *Tx) error {
			tx.NewChange("follow", "Follows").SetDone()
			return errors.Join(tx.Set("current", "new"), tx.Task(task.ID()).SetUndo(record{"old"}))
		}, nil
	}, func(_ context.Context, task *Task) (Commit, error) {
		var r record
		if err := task.Undo(&r); err != nil {
			return nil, err
		}
		return func(tx *Tx) error { return tx.Set("current", r.Was) }, nil
	})
	f.r.AddHandler("b", func(context.Context, *Task) (Commit, error) {
		f.view(func(tx *Tx) {
			var current string
			if err := tx.Get("current", &current); err != nil || current != "new" {
				t.Errorf("got %q, %v", current, err)
			}
		})
		return nil, errors.New("cannot b")
	}, nil)
	f.r.Start(t.Context())
	id := f.change(func(tx *Tx, c *Change) {
		tasks := newTasks(tx, "a", "b")
		tasks[0].Set("param", "p")
		c.AddChain(0, tasks...)
	})
	f.wait(id)
	f.check(id, Error, "a:Undone b:Error")
	f.view(func(tx *Tx) {
		var current string
		if err := tx.Get("current", &current); err != nil || current != "old" {
			t.Errorf("got %q, %v", current, err)
		}
		if n := len(tx.Changes()); n != 2 {
			t.Errorf("%d changes, want 2", n)
		}
	})
}

func TestBadHandlers(t *testing.T) {
	t.Parallel()
	for reason, do := range map[string]Handler{
		"internal error: handler panicked: oops": func(context.Context, *Task) (Commit, error) { panic("oops") },
		"internal error: commit panicked: oops": func(context.Context, *Task) (Commit, error) {
			return func(*Tx) error { panic("oops") }, nil
		},
		"cannot commit": func(context.Context, *Task) (Commit, error) {
			return func(tx *Tx) error { tx.Set("k", 1); return errors.New("cannot commit") }, nil
		},
		`cannot store "k" in state: json: unsupported type: func()`: func(context.Context, *Task) (Commit, error) {
			return func(tx *Tx) error { tx.Set("k", func() {}); return nil }, nil
		},
	} {
		f := newFixture(t)
		var j journal
		j.handle(f.r, "a", "")
		f.r.AddHandler("bad", do, j.note("-"))
		f.r.Start(t.Context())
		id := f.chain("a", "bad")
		f.wait(id)
		f.check(id, Error, "a:Undone bad:Error")
		f.view(func(tx *Tx) {
			want := "cannot perform the following tasks:\n- Task bad (" + reason + ")"
			if err := tx.Change(id).Err(); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if err := tx.Get("k", new(int)); !errors.Is(err, ErrNoState) {
				t.Error("half a commit was stored")
			}
		})
		if j.String() != "+a -a" {
			t.Errorf("got %s", &j)
		}
	}
}

func TestUndoThatFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	j.handle(f.r, "a c d", "d")
	f.r.AddHandler("b", j.note("+"), func(context.Context, *Task) (Commit, error) { return nil, errors.New("cannot undo b") })
	f.r.Start(t.Context())
	id := f.chain("a", "b", "c", "d")
	f.wait(id)
	f.check(id, Error, "a:Undone b:Error c:Undone d:Error")
	if j.String() != "+a +b +c -c -a" {
		t.Errorf("got %s", &j)
	}
	f.view(func(tx *Tx) {
		want := "cannot perform the following tasks:\n- Task b (cannot undo b)\n- Task d (cannot d)"
		if err := tx.Change(id).Err(); err == nil || err.Error() != want {
			t.Errorf("got %v", err)
		}
	})
}

func TestNothingToUndo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	j.handle(f.r, "a c d", "d")
	f.r.AddHandler("b", j.note("+"), nil)
	f.r.Start(t.Context())
	id := f.chain("a", "b", "c", "d")
	f.wait(id)
	f.check(id, Error, "a:Undone b:Done c:Undone d:Error")
	if j.String() != "+a +b +c -c -a" {
		t.Errorf("got %s: a must wait for c through b", &j)
	}
}

func TestUnknownKind(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	j.handle(f.r, "a", "")
	f.r.Start(t.Context())
	id := f.chain("a", "what", "a")
	f.wait(id)
	f.check(id, Error, "a:Undone what:Error a:Hold")
	f.view(func(tx *Tx) {
		if err := tx.Change(id).Err(); err == nil || !strings.Contains(err.Error(), `no handler for task kind "what"`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestLogProgressTimings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var id string
		task := func() (got *Task) {
			f.view(func(tx *Tx) { got = tx.Change(id).Tasks()[0] })
			return got
		}
		f.r.AddHandler("a", func(_ context.Context, h *Task) (Commit, error) {
			for i := range 12 {
				h.Log("line %d", i)
			}
			h.SetProgress("bytes", 3, 7)
			time.Sleep(2 * time.Second)
			f.view(func(tx *Tx) {
				if got := tx.Task(h.ID()).LogLines(); len(got) != 10 || !strings.HasSuffix(got[9], "Z INFO line 11") {
					t.Errorf("log while running: %q", got)
				}
				if got := tx.Task(h.ID()).Progress(); got != (Progress{"bytes", 3, 7}) {
					t.Errorf("progress while running: %v", got)
				}
			})
			f.update(func(tx *Tx) { tx.Set("k", 1) })
			f.view(func(tx *Tx) {
				if got := tx.Task(h.ID()).rec.Log; len(got) != 10 {
					t.Errorf("the log was not stored with the next transaction: %q", got)
				}
			})
			h.Log("last")
			return nil, errors.New("cannot a")
		}, nil)
		id = f.chain("a")
		if got := task().Progress(); got != (Progress{"", 0, 1}) {
			t.Errorf("progress before: %v", got)
		}
		f.r.Start(t.Context())
		f.wait(id)
		got := task()
		log := got.LogLines()
		if len(log) != 10 || !strings.HasSuffix(log[8], " INFO last") || !strings.HasSuffix(log[9], " ERROR cannot a") {
			t.Errorf("log after: %q", log)
		}
		if got.Progress() != (Progress{"", 1, 1}) || got.DoingTime() != 2*time.Second || got.UndoingTime() != 0 {
			t.Errorf("after: %v, %v, %v", got.Progress(), got.DoingTime(), got.UndoingTime())
		}
		if d := got.ReadyTime().Sub(got.SpawnTime()); d != 2*time.Second {
			t.Errorf("ready after %v", d)
		}
		if len(f.s.pending) != 0 || len(f.s.progress) != 0 {
			t.Error("something stays in memory")
		}
	})
}

func TestRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		tries := 0
		begin := time.Now()
		retry := func(context.Context, *Task) (Commit, error) {
			if tries++; tries%3 != 0 {
				return nil, fmt.Errorf("wrapped: %w", &Retry{After: time.Minute, Reason: "busy"})
			}
			return nil, nil
		}
		f.r.AddHandler("a", retry, retry)
		f.r.AddHandler("b", func(context.Context, *Task) (Commit, error) { return nil, errors.New("cannot") }, nil)
		f.r.Start(t.Context())
		id := f.chain("a", "b")
		synctest.Wait()
		f.check(id, Doing, "a:Doing b:Do")
		f.r.Ensure() // does not hurry it
		f.waitFor(id, time.Hour)
		f.check(id, Error, "a:Undone b:Error")
		if d := time.Since(begin); tries != 6 || d != 4*time.Minute {
			t.Errorf("%d tries in %v", tries, d)
		}
	})
}

func TestStorageFailsAtStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.r.AddHandler("a", nopHandler, nil)
		id := f.change(func(tx *Tx, c *Change) {
			task := tx.NewTask("a", "A")
			task.Set("big", strings.Repeat("x", 1<<20)) // has no room for a second one
			c.AddTask(task)
		})
		f.s.db.MaxSize = 1
		f.r.Start(t.Context())
		time.Sleep(time.Minute)
		f.check(id, Do, "a:Do")
		f.s.writing.Lock()
		f.s.db.MaxSize = 0
		f.s.writing.Unlock()
		f.wait(id)
		f.check(id, Done, "a:Done")
	})
}

func TestStorageFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		acts := 0
		f.r.AddHandler("a", func(context.Context, *Task) (Commit, error) {
			acts++
			f.s.writing.Lock()
			f.s.db.MaxSize = 1
			f.s.writing.Unlock()
			return func(tx *Tx) error { return tx.Set("k", strings.Repeat("x", 1<<20)) }, nil
		}, nil)
		f.r.Start(t.Context())
		id := f.chain("a")
		time.Sleep(time.Minute)
		f.check(id, Doing, "a:Doing")
		f.s.writing.Lock()
		f.s.db.MaxSize = 0
		f.s.writing.Unlock()
		f.wait(id)
		f.check(id, Done, "a:Done")
		if acts != 1 {
			t.Errorf("acted %d times, want 1", acts)
		}
	})
}
