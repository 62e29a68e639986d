// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// job is one run of a task's handler.
type job struct {
	task    *Task // as the handler gets it
	undo    bool
	handler Handler
	ctx     context.Context
	cancel  context.CancelCauseFunc
	note    func(t *Task) // what the observer records, nil for nothing
}

func (r *Runner) newJob(t *Task, undo bool, h Handler) *job {
	ctx, cancel := context.WithCancelCause(r.base)
	return &job{
		task: &Task{s: t.s, rec: t.rec}, undo: undo, handler: h,
		ctx: ctx, cancel: cancel,
	}
}

// reserve counts the jobs as running, at once if the transaction becomes
// durable.
func (r *Runner) reserve(tx *Tx, jobs []*job) {
	tx.after = append(tx.after, func(committed bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, j := range jobs {
			if !committed {
				j.cancel(nil)
				continue
			}
			r.active[j.task.rec.ID] = j
			delete(r.retries, j.task.rec.ID)
		}
	})
}

// launch runs the reserved jobs.
func (r *Runner) launch(jobs []*job) {
	for _, j := range jobs {
		if r.isStopping() {
			j.cancel(ErrShutdown) // it stays Doing, for the next start
			continue
		}
		r.jobs.Go(func() { r.run(j) })
	}
}

func (r *Runner) run(j *job) {
	if r.observe != nil {
		j.ctx, j.note = r.observe(j.ctx, j.task)
	}
	began := time.Now()
	commit, err := r.call(j)
	took := time.Since(began)
	if err == nil {
		r.fault(j, "acted")
	} else {
		r.fault(j, "failing")
	}
	start, recorded := r.end(j, commit, err, took)
	j.cancel(nil)
	if recorded != "" {
		r.fault(j, recorded)
	}
	r.launch(start)
}

// call runs the handler; a panic is the task's error.
func (r *Runner) call(j *job) (commit Commit, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover()
		r.log.Error("handler panicked", "task", j.task.rec.ID, "kind", j.task.rec.Kind,
			"panic", p, "stack", string(debug.Stack()))
		commit, err = nil, fmt.Errorf("internal error: handler panicked: %v", p)
	}()
	commit, err = j.handler(j.ctx, j.task)
	returned = true
	return commit, err
}

// end records how the job ended and reserves what can run now; it tells what
// was recorded: "committed", "failed" or nothing. It tries until the disk takes it, or until shutdown:
// then the task is run again.
func (r *Runner) end(j *job, commit Commit, err error, took time.Duration) (start []*job, recorded string) {
	for {
		if err != nil && r.isStopping() {
			r.release(j)
			return nil, ""
		}
		uerr := r.s.Update(func(tx *Tx) error {
			start = nil
			if err == nil && commit != nil {
				if cerr := r.callCommit(j, commit, tx); cerr != nil {
					return cerr
				}
			}
			return r.record(j, tx, err, took, &start)
		})
		var storage *storageError
		switch {
		case uerr == nil:
			if err != nil {
				return start, "failed"
			}
			return start, "committed"
		case errors.As(uerr, &storage):
			r.log.Error("cannot record the end of a task", "task", j.task.rec.ID, "error", uerr)
			if !r.pause() {
				r.release(j)
				return nil, ""
			}
		case err == nil && !errors.Is(uerr, ErrClosed):
			// The commit could not be stored, so the task has failed.
			commit, err = nil, uerr
		default:
			r.log.Error("cannot record the end of a task", "task", j.task.rec.ID, "error", uerr)
			r.release(j)
			return nil, ""
		}
	}
}

// record writes how the task ended.
func (r *Runner) record(j *job, tx *Tx, err error, took time.Duration, start *[]*job) error {
	id := j.task.rec.ID
	t := tx.Task(id)
	if t == nil {
		return fmt.Errorf("cannot record the end of task %s: it is gone", id)
	}
	retry, again := errors.AsType[*Retry](err)
	switch {
	case again && t.rec.Status == Abort:
		again = false
	case again:
		// Nothing to write.
	case err != nil:
		if t.rec.Status == Abort && errors.Is(err, context.Canceled) {
			err = ErrAborted
		}
		t.failed(err)
	case j.undo:
		t.setStatus(Undone)
	case t.rec.Status == Doing:
		t.setStatus(Done)
	}
	if !again {
		if j.undo {
			t.rec.UndoTime += took
		} else {
			t.rec.DoTime += took
		}
		t.dirty = true
	}
	if j.note != nil {
		j.note(t)
	}
	tx.after = append(tx.after, func(committed bool) {
		if committed {
			r.ended(j, again, retry)
		}
	})
	if c := tx.Change(t.rec.Change); c != nil && !again {
		*start = r.advance(tx, c, j)
	}
	return nil
}

// ended counts the job as no longer running, and sets the timer of a retry.
func (r *Runner) ended(j *job, again bool, retry *Retry) {
	id, change := j.task.rec.ID, j.task.rec.Change
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[id] == j {
		delete(r.active, id)
	}
	if !again {
		r.s.dropProgress(id)
		return
	}
	r.retries[id] = time.Now().Add(retry.After)
	time.AfterFunc(retry.After, func() {
		r.mu.Lock()
		r.dirty[change] = true
		r.mu.Unlock()
		r.kick()
	})
}

// callCommit runs the handler's commit; a panic is an error.
func (r *Runner) callCommit(j *job, commit Commit, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("commit panicked", "task", j.task.rec.ID, "kind", j.task.rec.Kind,
				"panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: commit panicked: %v", p)
		}
	}()
	return commit(tx)
}

// release counts the job as no longer running without a record of it.
func (r *Runner) release(j *job) {
	r.s.writing.Lock()
	defer r.s.writing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.active, j.task.rec.ID)
}

// pause waits before another attempt to write; false means that the runner
// stops.
func (r *Runner) pause() bool {
	if r.isStopping() {
		return false
	}
	time.Sleep(storageRetry)
	return true
}

func (r *Runner) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}

// fault gives a crash test its chance.
func (r *Runner) fault(j *job, when string) {
	if r.s.opts.FaultHook == nil {
		return
	}
	verb := "do"
	if j.undo {
		verb = "undo"
	}
	r.s.opts.FaultHook(j.task.rec.Kind + ":" + verb + ":" + when)
}
