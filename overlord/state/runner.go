// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// storageRetry is how long to wait when the state could not be written.
const storageRetry = 3 * time.Second

// Handler does the work of one task, or undoes it. It holds no lock, may be
// run again after a crash, and returns what to record once the work is done;
// see the package's rules.
type Handler func(ctx context.Context, t *Task) (Commit, error)

// Commit records what a handler did, in the transaction that marks the task
// Done or Undone. It reads anew what it changes. Nil is for nothing to record.
// It may run again when the disk fails, so it changes nothing but the state;
// an error from it counts as an error of the task, whose act then stays.
type Commit func(tx *Tx) error

// Retry is the error of a handler that cannot go on yet. The task stays Doing
// (or Undoing) and the handler is run again, from the start, after that time or
// with the next start of the daemon. An abort in between goes to the undo
// handler.
type Retry struct {
	After  time.Duration
	Reason string
}

func (r *Retry) Error() string {
	if r.Reason == "" {
		return fmt.Sprintf("cannot continue yet, will retry after %v", r.After)
	}
	return fmt.Sprintf("cannot continue yet, will retry after %v: %s", r.After, r.Reason)
}

type handlers struct{ do, undo Handler }

// Runner carries out the tasks of a State: one goroutine for each task that
// can run. It acts on events only; its timers are those of Retry and pruning.
type Runner struct {
	s        *State
	log      *slog.Logger
	handlers map[string]handlers
	observe  Observer // nil for none

	wake    chan struct{}
	stopped chan struct{} // closed when all has ended
	jobs    sync.WaitGroup

	mu       sync.Mutex // guards the following
	dirty    map[string]bool
	all      bool                 // every change is to be looked at
	active   map[string]*job      // by task; changes only while s.writing is held
	retries  map[string]time.Time // when to run a task again, by task
	stopping bool
	cancel   context.CancelFunc // of the loop, nil before Start
	base     context.Context    // the handlers' values
}

// NewRunner makes a runner, which does nothing until Start. A State has one
// runner; nil as log drops what it has to say.
func NewRunner(s *State, log *slog.Logger) *Runner {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Runner{
		s: s, log: log,
		handlers: make(map[string]handlers),
		wake:     make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		dirty:    make(map[string]bool),
		active:   make(map[string]*job),
		retries:  make(map[string]time.Time),
	}
}

// AddHandler says who does and who undoes tasks of a kind, before Start. With a
// nil undo there is nothing to undo: such a task stays Done when its change is
// undone, and becomes Hold when it is aborted while it runs.
func (r *Runner) AddHandler(kind string, do, undo Handler) {
	if _, ok := r.handlers[kind]; ok || do == nil {
		panic(fmt.Sprintf("state: handler for %q missing or added twice", kind))
	}
	r.handlers[kind] = handlers{do, undo}
}

// Observer is told of each run of a handler. It returns the context that the
// handler gets, and what to record of the run in the transaction that records
// its end, whether it did its work or failed. A run that a crash or Stop cuts
// off is not recorded.
type Observer func(ctx context.Context, t *Task) (context.Context, func(t *Task))

// Observe sets the observer, before Start.
func (r *Runner) Observe(o Observer) { r.observe = o }

// Start begins to run tasks, those first that a crash or Stop left behind. When
// ctx is cancelled that is a Stop. Handlers get its values. A stopped runner
// cannot be started again.
func (r *Runner) Start(ctx context.Context) {
	loopCtx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	started := r.cancel != nil
	r.cancel, r.base = cancel, context.WithoutCancel(ctx)
	r.mu.Unlock()
	if started {
		panic("state: runner started twice")
	}
	unwatch := r.s.watch(r.changed)
	r.Ensure()
	go func() {
		defer close(r.stopped)
		defer unwatch()
		r.loop(loopCtx)
		r.shutdown()
		r.jobs.Wait()
	}()
}

// Stop cancels all handlers with ErrShutdown and returns when they have. Tasks
// whose handlers returned an error run again at the next start.
func (r *Runner) Stop() {
	r.mu.Lock()
	cancel := r.cancel
	r.mu.Unlock()
	if cancel == nil {
		return
	}
	cancel()
	<-r.stopped
}

// Ensure has every unready change looked at. New and aborted changes are
// noticed without it.
func (r *Runner) Ensure() {
	r.mu.Lock()
	r.all = true
	r.mu.Unlock()
	r.kick()
}

func (r *Runner) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// changed notes what a transaction changed, and cancels what it aborted.
func (r *Runner) changed(p *published) {
	if p.moved != "" {
		return // nothing can be started for that
	}
	r.mu.Lock()
	for _, id := range p.aborted {
		if j := r.active[id]; j != nil {
			j.cancel(ErrAborted)
		}
	}
	for id := range p.changes {
		r.dirty[id] = true
	}
	r.mu.Unlock()
	r.kick()
}

func (r *Runner) loop(ctx context.Context) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	// Before the first pass: a change that is too old does not begin again.
	r.prune()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.prune()
		case <-r.wake:
			r.pass(ctx)
		}
	}
}

// pass starts what can be started in the changes that were touched.
func (r *Runner) pass(ctx context.Context) {
	r.mu.Lock()
	dirty, all := r.dirty, r.all
	r.dirty, r.all = make(map[string]bool), false
	r.mu.Unlock()
	var start []*job
	err := r.s.Update(func(tx *Tx) error {
		start = nil
		for _, c := range r.pick(tx, dirty, all) {
			start = append(start, r.advance(tx, c, nil)...)
		}
		return nil
	})
	if err == nil {
		r.launch(start)
		return
	}
	r.log.Error("cannot start tasks", "error", err)
	r.mu.Lock()
	for id := range dirty {
		r.dirty[id] = true
	}
	r.all = r.all || all
	r.mu.Unlock()
	timer := time.AfterFunc(storageRetry, r.kick)
	context.AfterFunc(ctx, func() { timer.Stop() })
}

// pick gives the unready changes among the dirty ones, or among all.
func (r *Runner) pick(tx *Tx, dirty map[string]bool, all bool) []*Change {
	var picked []*Change
	if all {
		picked = tx.Unready()
	} else {
		for id := range dirty {
			if c := tx.Change(id); c != nil {
				picked = append(picked, c)
			}
		}
	}
	return slices.DeleteFunc(picked, func(c *Change) bool { return !c.rec.Ready.IsZero() })
}

// advance moves the change on as far as that needs no handler, marks the tasks
// that a handler is to be run for, and reserves their jobs, to be launched when
// the transaction is durable. The job that has just ended, if any, is not
// counted as running.
func (r *Runner) advance(tx *Tx, c *Change, ended *job) []*job {
	if r.isStopping() {
		return nil
	}
	var start []*job
	reserved := make(map[string]bool)
	tasks := c.Tasks()
	for again := true; again; {
		again = false
		for _, t := range tasks {
			if reserved[t.rec.ID] || r.busy(t, ended) {
				continue
			}
			j, moved := r.step(t, tasks)
			again = again || moved
			if j != nil {
				reserved[t.rec.ID] = true
				start = append(start, j)
			}
		}
	}
	r.reserve(tx, start)
	return start
}

// busy tells whether the task's handler runs, or waits to be run again.
func (r *Runner) busy(t *Task, ended *job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j := r.active[t.rec.ID]; j != nil {
		return j != ended
	}
	if t.rec.Status == Abort {
		delete(r.retries, t.rec.ID)
	}
	due, ok := r.retries[t.rec.ID]
	return ok && time.Now().Before(due)
}

// step moves one task that no handler is busy with. It returns the job to run,
// or that the task went on without one, which may have cleared the way of
// others.
func (r *Runner) step(t *Task, tasks []*Task) (j *job, moved bool) {
	h, known := r.handlers[t.rec.Kind]
	switch t.rec.Status {
	case Do:
		if !waitsDone(t, tasks) {
			return nil, false
		}
		if !known {
			t.failed(fmt.Errorf("no handler for task kind %q", t.rec.Kind))
			return nil, true
		}
		t.setStatus(Doing)
		return r.newJob(t, false, h.do), false
	case Doing:
		if !known {
			t.failed(fmt.Errorf("no handler for task kind %q", t.rec.Kind))
			return nil, true
		}
		return r.newJob(t, false, h.do), false
	case Abort:
		if known && h.undo == nil {
			t.setStatus(Hold)
		} else {
			t.setStatus(Undo)
		}
		return nil, true
	case Undo:
		if !dependantsReady(t, tasks) {
			return nil, false
		}
		if known && h.undo == nil {
			t.setStatus(Done)
			return nil, true
		}
		t.setStatus(Undoing)
	case Undoing:
	default:
		return nil, false
	}
	if !known {
		t.failed(fmt.Errorf("no handler for task kind %q", t.rec.Kind))
		return nil, true
	}
	return r.newJob(t, true, h.undo), false
}

// waitsDone tells whether all that the task waits for is done.
func waitsDone(t *Task, tasks []*Task) bool {
	for _, o := range tasks {
		if o.rec.Status != Done && slices.Contains(t.rec.Waits, o.rec.ID) {
			return false
		}
	}
	return true
}

// dependantsReady tells whether all that waits for the task has ended.
func dependantsReady(t *Task, tasks []*Task) bool {
	for _, o := range tasks {
		if !o.rec.Status.Ready() && slices.Contains(o.rec.Waits, t.rec.ID) {
			return false
		}
	}
	return true
}

// failed records why the task failed; if it was being done, its lanes turn
// back.
func (t *Task) failed(err error) {
	doing := t.rec.Status != Undoing
	t.setStatus(Error)
	t.rec.Error = err.Error()
	t.logLine("ERROR", err.Error())
	if doing {
		if c := t.tx.Change(t.rec.Change); c != nil {
			c.abortLanes(t.Lanes())
		}
	}
}

// prune drops and aborts what is too old.
func (r *Runner) prune() {
	err := r.s.Update(func(tx *Tx) error {
		running := make(map[string]bool)
		r.mu.Lock()
		for _, j := range r.active {
			running[j.task.rec.Change] = true
		}
		r.mu.Unlock()
		tx.prune(func(id string) bool { return running[id] })
		return nil
	})
	if err != nil {
		r.log.Error("cannot prune state", "error", err)
	}
}

func (r *Runner) shutdown() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	for _, j := range r.active {
		j.cancel(ErrShutdown)
	}
}
