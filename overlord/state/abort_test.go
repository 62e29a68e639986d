// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (f *fixture) abort(id string) {
	f.t.Helper()
	f.update(func(tx *Tx) { tx.Change(id).Abort() })
}

func TestAbortBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.chain("a", "b")
	f.abort(id)
	f.wait(id)
	f.check(id, Hold, "a:Hold b:Hold")
	f.abort(id) // ready: does nothing
	f.check(id, Hold, "a:Hold b:Hold")
}

func TestAbortAfter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	j.handle(f.r, "a", "")
	f.r.Start(t.Context())
	id := f.chain("a")
	f.wait(id)
	f.abort(id)
	f.r.Ensure()
	f.check(id, Done, "a:Done")
}

// TestAbortDoing aborts while b runs, which then ends in different ways.
func TestAbortDoing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		summary string
		ends    error
		noUndo  bool
		status  Status
		want    string
		journal string
		err     string
	}{{
		summary: "it succeeds all the same",
		status:  Undone, want: "a:Undone b:Undone c:Hold", journal: "+a +b -b -a",
	}, {
		summary: "it succeeds and has nothing to undo",
		noUndo:  true,
		status:  Undone, want: "a:Undone b:Hold c:Hold", journal: "+a +b -a",
	}, {
		summary: "it gives up",
		ends:    fmt.Errorf("cannot download: %w", context.Canceled),
		status:  Error, want: "a:Undone b:Error c:Hold", journal: "+a +b -a",
		err: "cannot perform the following tasks:\n- Task b (aborted)",
	}, {
		summary: "it fails",
		ends:    errors.New("cannot b"),
		status:  Error, want: "a:Undone b:Error c:Hold", journal: "+a +b -a",
		err: "cannot perform the following tasks:\n- Task b (cannot b)",
	}, {
		summary: "it wants to try again",
		ends:    &Retry{After: time.Hour},
		status:  Undone, want: "a:Undone b:Undone c:Hold", journal: "+a +b -b -a",
	}} {
		t.Run(test.summary, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			var j journal
			j.handle(f.r, "a c", "")
			running := make(chan struct{})
			undo := j.note("-")
			if test.noUndo {
				undo = nil
			}
			f.r.AddHandler("b", func(ctx context.Context, task *Task) (Commit, error) {
				j.add("+b")
				close(running)
				<-ctx.Done()
				if got := context.Cause(ctx); !errors.Is(got, ErrAborted) {
					t.Errorf("the cause is %v", got)
				}
				return func(tx *Tx) error { return tx.Set("b-was-committed", true) }, test.ends
			}, undo)
			f.r.Start(t.Context())
			id := f.chain("a", "b", "c")
			<-running
			f.abort(id)
			f.abort(id)
			f.wait(id)
			f.check(id, test.status, test.want)
			if j.String() != test.journal {
				t.Errorf("got %s, want %s", &j, test.journal)
			}
			f.view(func(tx *Tx) {
				var committed bool
				tx.Get("b-was-committed", &committed)
				if committed != (test.ends == nil) {
					t.Errorf("committed: %v", committed)
				}
				err := tx.Change(id).Err()
				if (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestAbortParallel has one task fail while another of its lane runs.
func TestAbortParallel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	running := make(chan struct{})
	f.r.AddHandler("a", func(ctx context.Context, _ *Task) (Commit, error) {
		close(running)
		<-ctx.Done()
		return nil, nil
	}, j.note("-"))
	f.r.AddHandler("b", func(context.Context, *Task) (Commit, error) {
		<-running
		return nil, errors.New("cannot b")
	}, nil)
	f.r.Start(t.Context())
	id := f.change(func(tx *Tx, c *Change) { c.AddTask(newTasks(tx, "a", "b")...) })
	f.wait(id)
	f.check(id, Error, "a:Undone b:Error")
}

func TestAbortWhileWaitingToRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var j journal
		f.r.AddHandler("a", func(context.Context, *Task) (Commit, error) { return nil, &Retry{After: time.Hour} }, j.note("-"))
		f.r.AddHandler("b", func(context.Context, *Task) (Commit, error) { return nil, &Retry{After: time.Hour} }, nil)
		f.r.Start(t.Context())
		id := f.change(func(tx *Tx, c *Change) { c.AddTask(newTasks(tx, "a", "b")...) })
		synctest.Wait()
		f.check(id, Doing, "a:Doing b:Doing")
		f.abort(id)
		f.waitFor(id, time.Minute)
		f.check(id, Undone, "a:Undone b:Hold")
	})
}

// TestShutdown stops while b is done and while it is undone.
func TestShutdown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	running := make(chan struct{})
	hang := func(ctx context.Context, _ *Task) (Commit, error) {
		close(running)
		<-ctx.Done()
		if got := context.Cause(ctx); !errors.Is(got, ErrShutdown) {
			t.Errorf("the cause is %v", got)
		}
		return nil, errors.New("cannot finish")
	}
	again := func(failing string, do, undo Handler) {
		f.r.Stop()
		f.s.Close()
		f.open(nil)
		j.handle(f.r, "a c", failing)
		f.r.AddHandler("b", do, undo)
		f.r.Start(t.Context())
	}
	again("", hang, nil)
	id := f.chain("a", "b", "c")
	<-running
	f.r.Stop()
	f.check(id, Doing, "a:Done b:Doing c:Do")

	running = make(chan struct{})
	again("c", j.note("+"), hang)
	<-running
	f.r.Stop()
	f.check(id, Undoing, "a:Undo b:Undoing c:Error")

	again("", nopHandler, j.note("-"))
	f.wait(id)
	f.check(id, Error, "a:Undone b:Undone c:Error")
	if j.String() != "+a +b -b -a" {
		t.Errorf("got %s", &j)
	}
}

func nopHandler(context.Context, *Task) (Commit, error) { return nil, nil }

// TestShutdownSuccess has a handler succeed during Stop: that is recorded, and
// nothing else begins.
func TestShutdownSuccess(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	running := make(chan struct{})
	f.r.AddHandler("a", func(ctx context.Context, _ *Task) (Commit, error) {
		close(running)
		<-ctx.Done()
		return nil, nil
	}, nil)
	f.r.AddHandler("b", func(context.Context, *Task) (Commit, error) {
		t.Error("b began during Stop")
		return nil, nil
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	f.r.Start(ctx)
	id := f.chain("a", "b")
	<-running
	cancel() // is a Stop
	f.r.Stop()
	f.check(id, Do, "a:Done b:Do")
}

// TestAbortedWhileDown aborts, and the daemon dies before the handler noticed.
func TestAbortedWhileDown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.chain("a", "b")
	f.update(func(tx *Tx) {
		tx.Change(id).Tasks()[0].setStatus(Doing)
		tx.Change(id).Abort()
	})
	f.check(id, Abort, "a:Abort b:Hold")
	var j journal
	f.r.AddHandler("a", j.note("+"), func(_ context.Context, task *Task) (Commit, error) {
		if err := task.Undo(new(int)); !errors.Is(err, ErrNoState) {
			t.Errorf("got %v", err)
		}
		return nil, nil
	})
	f.r.Start(t.Context())
	f.wait(id)
	f.check(id, Undone, "a:Undone b:Hold")
	if j.String() != "" {
		t.Errorf("it was done again: %s", &j)
	}
}

func TestWaitChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		id := f.chain("a")
		ctx, cancel := context.WithCancelCause(t.Context())
		errs := make(chan error)
		wait := func(ctx context.Context) { errs <- f.s.WaitChange(ctx, id) }
		go wait(ctx)
		synctest.Wait()
		cancel(errors.New("the client left"))
		if err := <-errs; err == nil || !strings.HasSuffix(err.Error(), "cannot wait for change 1: the client left") {
			t.Errorf("got %v", err)
		}
		go wait(t.Context())
		synctest.Wait()
		f.abort(id)
		if err := <-errs; err != nil {
			t.Errorf("got %v", err)
		}
		id = f.chain("a")
		go wait(t.Context())
		synctest.Wait()
		f.s.Close()
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAddChangeWatcher(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	remove := f.s.AddChangeWatcher(func(id string) {
		f.view(func(tx *Tx) { j.add("%s:%s", id, tx.Change(id).Status()) })
	})
	f.r.AddHandler("a", nopHandler, nil)
	id := f.chain("a")
	f.update(func(tx *Tx) { tx.Set("k", 1) }) // touches no change
	f.update(func(tx *Tx) { tx.Change(id).Abort() })
	remove()
	f.chain("a")
	if j.String() != "1:Do 1:Hold" {
		t.Errorf("got %s", &j)
	}
}

func TestAddActivityWatcher(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	moved := make(chan string, 100)
	defer f.s.AddActivityWatcher(func(id string) { moved <- id })()
	act := make(chan func(*Task))
	f.r.AddHandler("a", func(_ context.Context, task *Task) (Commit, error) {
		for do := range act {
			do(task)
		}
		return nil, nil
	}, nil)
	f.r.Start(t.Context())
	f.update(func(tx *Tx) {
		task := tx.NewTask("a", "a")
		tx.NewChange("c", "c").AddTask(task)
	})
	next := func() string {
		select {
		case id := <-moved:
			return id
		case <-time.After(10 * time.Second):
			return "nothing"
		}
	}
	if got := next(); got != "1" { // it was made
		t.Fatal(got)
	}
	quiet := func() {
		for {
			select {
			case <-moved: // it is being done
			case <-time.After(50 * time.Millisecond):
				return
			}
		}
	}
	quiet()
	for n, do := range []func(*Task){
		func(t *Task) { t.Log("x") },
		func(t *Task) { t.SetProgress("x", 1, 2) },
		func(t *Task) { t.SetProgress("x", 1, 2) }, // the same
		func(t *Task) { t.SetProgress("x", 2, 2) },
	} {
		act <- do
		if n == 2 {
			continue
		}
		if got := next(); got != "1" {
			t.Errorf("%d: %s", n, got)
		}
	}
	if len(moved) > 0 {
		t.Error("progress that is the same was told")
	}
	close(act)
	if got := next(); got != "1" { // it is done
		t.Error(got)
	}
}
