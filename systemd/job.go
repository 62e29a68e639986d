// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// The results of jobs, as systemd names them.
const (
	ResultDone       = "done"
	ResultCanceled   = "canceled"
	ResultTimeout    = "timeout"
	ResultFailed     = "failed"
	ResultDependency = "dependency"
	ResultSkipped    = "skipped"
)

// Job is a handle on one job of a unit. Requests that systemd merges share
// the ID and the end.
type Job struct {
	ID   uint32
	Unit string
	Verb string // what was asked for: "start", "stop" or "restart"; for WatchJob the job's type
	*jobState
}

// jobState is shared by all handles on one job.
type jobState struct {
	unit, verb string
	since      uint64 // CLOCK_MONOTONIC µs of when it was first known
	done       chan struct{}
	once       sync.Once
	ended      time.Time // with what follows, before done is closed
	result     string
	err        error
}

func (j *jobState) finish(result string, err error) {
	j.once.Do(func() {
		j.result, j.err, j.ended = result, err, time.Now()
		close(j.done)
	})
}

// Done is closed when the job has ended.
func (j *jobState) Done() <-chan struct{} { return j.done }

// Result is how the job ended; "" while it has not, or if Close came first.
func (j *jobState) Result() string {
	select {
	case <-j.done:
		return j.result
	default:
		return ""
	}
}

// Wait waits for the job's end, over lost connections if need be, and returns
// its result. The error is only ever that of ctx, or ErrClosed; the job goes
// on regardless.
func (j *jobState) Wait(ctx context.Context) (string, error) {
	select {
	case <-j.done:
		return j.result, j.err
	default:
	}
	select {
	case <-j.done:
		return j.result, j.err
	case <-ctx.Done():
		return "", fmt.Errorf("cannot wait for the %s job of %s: %w", j.verb, j.unit, ctx.Err())
	}
}

// Start enqueues a start job and does not wait for it. mode is systemd's:
// "replace", "fail", "ignore-requirements", ….
func (m *Manager) Start(ctx context.Context, unit, mode string) (*Job, error) {
	return m.enqueue(ctx, "start", unit, "StartUnit", unit, mode)
}

// Stop enqueues a stop job and does not wait for it.
func (m *Manager) Stop(ctx context.Context, unit, mode string) (*Job, error) {
	return m.enqueue(ctx, "stop", unit, "StopUnit", unit, mode)
}

// Restart enqueues a restart job and does not wait for it. A unit that is not
// running is started. The job ends when the start half has.
func (m *Manager) Restart(ctx context.Context, unit, mode string) (*Job, error) {
	return m.enqueue(ctx, "restart", unit, "RestartUnit", unit, mode)
}

// Run enqueues and waits. Anything but "done" and "skipped" is a *JobError. verb
// is "start", "stop", "restart", or "reload" for the unit's own reload command.
func (m *Manager) Run(ctx context.Context, verb, unit, mode string) error {
	method, ok := map[string]string{"start": "StartUnit", "stop": "StopUnit", "restart": "RestartUnit", "reload": "ReloadUnit"}[verb]
	if !ok {
		return fmt.Errorf("cannot %s %s: unknown verb", verb, unit)
	}
	j, err := m.enqueue(ctx, verb, unit, method, unit, mode)
	if err != nil {
		return err
	}
	result, err := j.Wait(ctx)
	if err != nil {
		return err
	}
	if result != ResultDone && result != ResultSkipped {
		return &JobError{Unit: unit, Verb: verb, Result: result}
	}
	return nil
}

// begin announces a call that returns a job; end must be deferred.
func (m *Manager) begin() {
	m.mu.Lock()
	m.inflight++
	m.mu.Unlock()
}

func (m *Manager) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inflight--; m.inflight == 0 {
		clear(m.ended)
	}
}

// track returns a handle for a job whose ID has just been learnt, between
// begin and end.
func (m *Manager) track(id uint32, unit, verb string) *Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.jobs[id]
	if s == nil {
		s = &jobState{unit: unit, verb: verb, since: monotonic(), done: make(chan struct{})}
		result, over := m.ended[id]
		switch {
		case over:
			s.finish(result, nil)
		case m.ctx.Err() != nil:
			s.finish("", ErrClosed)
		default:
			m.jobs[id] = s
		}
	}
	return &Job{ID: id, Unit: unit, Verb: verb, jobState: s}
}

// enqueue calls a method that returns a job.
func (m *Manager) enqueue(ctx context.Context, verb, unit, method string, args ...any) (*Job, error) {
	d := write(ctx, verb, unit)
	j, err := m.request(ctx, verb, unit, method, args...)
	d.enqueued(ctx, j, err)
	return j, err
}

func (m *Manager) request(ctx context.Context, verb, unit, method string, args ...any) (*Job, error) {
	m.begin()
	defer m.end()
	for {
		l, err := m.link(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot %s %s: %w", verb, unit, err)
		}
		var p dbus.ObjectPath
		answered := l.nudge(m.log)
		err = convert(l.call(ctx, method, args...).Store(&p))
		answered()
		if err == nil {
			id, err := jobID(p)
			if err != nil {
				return nil, fmt.Errorf("cannot %s %s: %w", verb, unit, err)
			}
			return m.track(id, unit, verb), nil
		}
		if !l.isLost(ctx, err) {
			return nil, fmt.Errorf("cannot %s %s: %w", verb, unit, err)
		}
		// The job may have been made. A second start or stop does no harm; a
		// second restart would disturb the unit twice, and a second scope of
		// one name is refused.
		if j, err := m.WatchJob(ctx, unit); err == nil && j != nil && j.Verb == verb {
			return j, nil
		}
		if verb == "restart" || method == "StartTransientUnit" {
			return nil, fmt.Errorf("cannot %s %s: %w", verb, unit, ErrConnectionLost)
		}
	}
}

func jobID(p dbus.ObjectPath) (uint32, error) {
	n, err := strconv.ParseUint(path.Base(string(p)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("unexpected job path %q", p)
	}
	return uint32(n), nil
}

// WatchJob attaches to the job that a unit has; nil if it has none.
func (m *Manager) WatchJob(ctx context.Context, unit string) (*Job, error) {
	m.begin()
	defer m.end()
	st, err := m.status(ctx, unit)
	if err != nil {
		return nil, fmt.Errorf("cannot look up the job of %s: %w", unit, err)
	}
	if st.JobID == 0 {
		return nil, nil
	}
	return m.track(st.JobID, unit, st.JobType), nil
}

// CancelJob removes a job. One that is gone is not an error.
func (m *Manager) CancelJob(ctx context.Context, id uint32) error {
	err := m.again(ctx, func(l *link) error { return l.call(ctx, "CancelJob", id).Err })
	if err != nil && !errors.Is(err, ErrNoSuchJob) {
		return fmt.Errorf("cannot cancel job %d: %w", id, err)
	}
	return nil
}

// recheck looks up every open job and ends those that systemd no longer has.
// JobRemoved is handled before any reply that follows it, so a job that is
// unknown here and still open has ended unseen.
func (m *Manager) recheck(l *link) {
	m.mu.Lock()
	open := make(map[uint32]*jobState, len(m.jobs))
	for id, j := range m.jobs {
		open[id] = j
	}
	m.mu.Unlock()
	for id, j := range open {
		ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
		var p dbus.ObjectPath
		err := convert(l.call(ctx, "GetJob", id).Store(&p))
		if errors.Is(err, ErrNoSuchJob) {
			m.conclude(ctx, l, id, j)
		}
		cancel()
		if l.bus.Context().Err() != nil {
			return
		}
	}
}

// conclude ends a job whose JobRemoved was missed by what its unit is now.
func (m *Manager) conclude(ctx context.Context, l *link, id uint32, j *jobState) {
	if j.Result() != "" {
		return
	}
	st, err := l.status(ctx, j.unit)
	if err != nil {
		m.log.Warn("cannot tell how a job ended yet", "job", id, "unit", j.unit, "err", err)
		return
	}
	result := inferResult(j, st)
	m.log.Info("job ended unseen", "job", id, "unit", j.unit, "result", result)
	m.mu.Lock()
	delete(m.jobs, id)
	m.mu.Unlock()
	j.finish(result, nil)
}

// inferResult guesses a job's result from the unit that it was for.
func inferResult(j *jobState, st UnitStatus) string {
	switch {
	case j.verb == "stop" && (st.ActiveState == "inactive" || st.ActiveState == "failed"):
		return ResultDone
	case j.verb == "stop", st.JobID != 0:
		return ResultCanceled
	case st.ActiveState == "active", st.ActiveState == "reloading":
		return ResultDone
	case st.ActiveState == "failed":
		return ResultFailed
	case st.ActiveState == "inactive" && st.ExecMainStart >= j.since && st.Result == "success":
		return ResultDone // it ran and has ended since
	}
	return ResultCanceled
}
