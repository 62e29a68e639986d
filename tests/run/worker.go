// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// runner is one call of the program: the jobs, and how to run them.
type runner struct {
	root    string // of the project
	logs    string
	keep    bool
	verbose bool
	report  *report

	workers int // so far, each of which names its machines

	mu   sync.Mutex
	jobs []*job
}

// next takes the next job of a backend from the queue, one of the given suite if there is one: its preparation is done
// already.
func (r *runner) next(backend string, s *suite) *job {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := -1
	for i, j := range r.jobs {
		if j.backendName != backend {
			continue
		}
		if at < 0 {
			at = i
		}
		if j.suite == s && j.priority() >= r.jobs[at].priority() {
			at = i
			break
		}
	}
	if at < 0 {
		return nil
	}
	j := r.jobs[at]
	r.jobs = append(r.jobs[:at:at], r.jobs[at+1:]...)
	return j
}

// worker runs the jobs of a backend one after the other, in a machine that it boots when it needs one. When none are left
// it goes on with another backend's, so that all end at about the same time.
type worker struct {
	*runner
	kind   kind
	id     int
	boots  int
	device *guestMachine
	last   *job // whose suite the machine is prepared for; nil before any
}

// work runs the jobs of the worker's own backend, and then helps with those of the others.
func (w *worker) work(ctx context.Context, others ...kind) {
	for _, k := range append([]kind{w.kind}, others...) {
		w.kind = k
		w.drain(ctx)
	}
}

// drain runs jobs of the worker's backend until there are no more.
func (w *worker) drain(ctx context.Context) {
	j := w.next(w.kind.name, nil)
	if j == nil {
		return
	}
	err := w.kind.prepare(ctx)
	for ; j != nil && ctx.Err() == nil; j = w.next(w.kind.name, w.suite()) {
		if err != nil {
			// There is no machine for any of them.
			w.report.failed(j, 0, "none", "", err)
			continue
		}
		w.runJob(ctx, j)
	}
	w.discard()
}

// suite is the one that the worker's machine is prepared for; nil if none.
func (w *worker) suite() *suite {
	if w.last == nil {
		return nil
	}
	return w.last.suite
}

func (w *worker) discard() {
	if w.device != nil {
		w.device.stop()
	}
	w.device, w.last = nil, nil
}

func (w *worker) runJob(ctx context.Context, j *job) {
	start := time.Now()
	path := filepath.Join(w.logs, strings.NewReplacer("/", "-", ":", "-").Replace(j.name)+".log")
	log, err := os.Create(path)
	if err != nil {
		w.report.failed(j, time.Since(start), path, "", err)
		return
	}
	defer log.Close()
	var m machine
	if j.onHost() {
		m, err = w.hostFor(j)
	} else {
		m, err = w.deviceFor(ctx, j, log)
	}
	if err != nil {
		kept := ""
		if w.device != nil {
			kept = w.kind.keepLogs(w.device.name, path)
		}
		w.discard()
		w.report.failed(j, time.Since(start), path, kept, err)
		return
	}
	var about strings.Builder
	explain := func() {
		if ctx.Err() == nil && about.Len() == 0 {
			w.debug(ctx, m, j, path, &about)
			about.WriteString(w.kind.keepLogs(m.machineNames(), path))
		}
	}
	err = w.runParts(ctx, m, j, log, append(j.prepareParts(), parts("execute", j.task.Execute)...))
	if err != nil {
		explain()
	}
	if err != nil && m == machine(w.device) && !w.device.alive(ctx) {
		err = fmt.Errorf("%w; the %s does not answer any more", err, w.kind.name)
	} else if e := w.runAll(ctx, m, j, log, j.restoreParts()); e != nil {
		explain()
		err = errors.Join(err, e)
	}
	if !w.keep || err == nil {
		m.sweep()
	}
	switch {
	case err != nil:
		w.report.failed(j, time.Since(start), path, about.String(), err)
		if w.keep && w.device != nil && m == machine(w.device) {
			fmt.Printf("      kept: %s shell %s\n", w.kind.program, w.device.name)
			w.device, w.last = nil, nil
		}
	default:
		w.report.passed(j, time.Since(start), path)
	}
	// After a failure nobody knows what state the device is in.
	if m == machine(w.device) && (err != nil || j.fresh()) {
		w.discard()
	}
}

func (w *worker) hostFor(j *job) (machine, error) {
	w.boots++
	dir := filepath.Join(w.logs, fmt.Sprintf("task-%d-%d", w.id, w.boots))
	if err := os.Mkdir(dir, 0755); err != nil {
		return nil, err
	}
	return &hostMachine{
		kind: w.kind, project: w.root, dir: dir,
		prefix: fmt.Sprintf("run%d-%d-%d", os.Getpid(), w.id, w.boots),
	}, nil
}

// deviceFor returns the device with project and suite prepared, booting a new one if need be.
func (w *worker) deviceFor(ctx context.Context, j *job, log *os.File) (machine, error) {
	if j.fresh() {
		w.discard()
	}
	if w.device != nil && w.last != nil && w.last.suite != j.suite {
		old := w.last
		if err := w.runAll(ctx, w.device, old, log, parts("restore", old.suite.Restore)); err != nil {
			fmt.Fprintf(log, "suite restore failed, taking a new device: %v\n", err)
			w.discard()
		}
		w.last = nil
	}
	if w.device == nil {
		w.boots++
		name := fmt.Sprintf("run%d-%d-%d", os.Getpid(), w.id, w.boots)
		d, err := bootGuest(ctx, w.kind, name, j.project.Path, w.logs)
		if err != nil {
			return nil, err
		}
		w.device = d
		if err := w.runParts(ctx, d, j, log, parts("project prepare", j.project.Prepare, j.backend.Prepare)); err != nil {
			return nil, err
		}
	}
	if w.last == nil {
		if err := w.runParts(ctx, w.device, j, log, parts("suite prepare", j.suite.Prepare)); err != nil {
			return nil, err
		}
	}
	w.last = j
	return w.device, nil
}

// runParts runs scripts until one fails.
func (w *worker) runParts(ctx context.Context, m machine, j *job, log io.Writer, list []part) error {
	for _, p := range list {
		if err := w.runPart(ctx, m, j, log, p); err != nil {
			return err
		}
	}
	return nil
}

// runAll runs every script, whatever becomes of those before.
func (w *worker) runAll(ctx context.Context, m machine, j *job, log io.Writer, list []part) error {
	var errs []error
	for _, p := range list {
		errs = append(errs, w.runPart(ctx, m, j, log, p))
	}
	return errors.Join(errs...)
}

func (w *worker) runPart(ctx context.Context, m machine, j *job, log io.Writer, p part) error {
	fmt.Fprintf(log, "=== %s\n", p.what)
	late := fmt.Errorf("killed after %v", j.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, j.timeout, late)
	defer cancel()
	for reboots := 0; ; reboots++ {
		extra := append(m.env(), variable{Name: "SPREAD_REBOOT", Value: fmt.Sprint(reboots)})
		err := m.run(ctx, j.script(m.root(), p.text, extra), log)
		var exit *exec.ExitError
		if err == nil {
			return nil
		}
		if !errors.As(err, &exit) || exit.ExitCode() != rebootStatus || reboots == 20 {
			return fmt.Errorf("%s: %w", p.what, err)
		}
		fmt.Fprintf(log, "=== reboot %d\n", reboots+1)
		if err := m.reboot(ctx, log); err != nil {
			return fmt.Errorf("%s: %w", p.what, err)
		}
	}
}

// debug collects what may explain a failure.
func (w *worker) debug(ctx context.Context, m machine, j *job, path string, about *strings.Builder) {
	list := j.debugParts()
	if !j.onHost() {
		list = slices.Concat(parts("journal of snapd", "journalctl --no-pager -o short-precise -n 60 -u snapd"),
			parts("journal of PID 1 and the bus", "journalctl --no-pager -o short-precise -n 120 _PID=1 + _SYSTEMD_UNIT=dbus.service"),
			parts("where the last changes spent their time", "for id in $(snap changes | awk '$1 + 0 > 0 { print $1 }' | tail -n 12); do snap debug timings $id; done"), list)
	}
	for _, p := range list {
		out, err := os.Create(path + ".debug")
		if err != nil {
			return
		}
		bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
		err = w.runPart(bounded, m, j, out, p)
		cancel()
		out.Close()
		data, _ := os.ReadFile(path + ".debug")
		fmt.Fprintf(about, "%s", data)
		if err != nil {
			fmt.Fprintf(about, "(%v)\n", err)
		}
	}
	os.Remove(path + ".debug")
}
