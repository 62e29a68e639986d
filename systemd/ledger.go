// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Deed is one thing that was asked of the service manager.
type Deed struct {
	// What is a job's verb ("start", "stop", "restart", "reload"), or "signal",
	// "freeze", "thaw", "daemon-reload".
	What string `json:"what"`
	Unit string `json:"unit,omitempty"` // "" for a daemon-reload
	// Signal, such as "SIGTERM", and whom it went to: "main", "control" or "all".
	Signal string `json:"signal,omitempty"`
	To     string `json:"to,omitempty"`
	// Result is a job's as systemd names it ("done", "canceled", …), "refused"
	// where there was no job and for what is no job and failed, and "" for what
	// was not over yet when the ledger was read.
	Result string `json:"result,omitempty"`
	// At is when it was asked for.
	At time.Time `json:"at"`
	// MS is how long it took, in milliseconds; 0 for signals and what was not over.
	MS float64 `json:"ms,omitempty"`
}

// maxDeeds is how many of those that went well a ledger keeps, and as many of
// the others.
const maxDeeds = 100

// Ledger lists what was asked of the service manager with one context.
type Ledger struct {
	mu    sync.Mutex
	deeds []*deed
}

type deed struct {
	Deed
	job *jobState // nil for what is no job
}

type ledgerKey struct{}

// WithLedger has the Manager's methods that are called with the context write
// down what they do.
func WithLedger(ctx context.Context, l *Ledger) context.Context {
	return context.WithValue(ctx, ledgerKey{}, l)
}

// Deeds returns what was done so far, in the order of the requests, and how
// many are left out: no more than 100 that went well, and 100 that did not.
func (l *Ledger) Deeds() (deeds []Deed, leftOut int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	well, badly := 0, 0
	for _, d := range l.deeds {
		out := d.Deed
		if d.job != nil {
			out.Result, out.MS = d.job.outcome(out.At)
		}
		n := &badly
		if out.Result == ResultDone || out.Result == "" {
			n = &well
		}
		if *n == maxDeeds {
			leftOut++
			continue
		}
		*n++
		deeds = append(deeds, out)
	}
	return deeds, leftOut
}

// outcome tells how the job ended, and how long after that time.
func (j *jobState) outcome(since time.Time) (result string, ms float64) {
	select {
	case <-j.done:
		return j.result, milliseconds(j.ended.Sub(since))
	default:
		return "", 0
	}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// write begins an entry of the context's ledger; nil where there is none.
func write(ctx context.Context, what, unit string) *deed {
	l, _ := ctx.Value(ledgerKey{}).(*Ledger)
	if l == nil {
		return nil
	}
	d := &deed{Deed: Deed{What: what, Unit: unit, At: time.Now()}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deeds = append(l.deeds, d)
	return d
}

// over completes the entry of what is no job.
func (d *deed) over(ctx context.Context, err error) {
	l, _ := ctx.Value(ledgerKey{}).(*Ledger)
	if d == nil || l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d.Result = ResultDone
	if err != nil {
		d.Result = refused
	}
	if d.What != "signal" {
		d.MS = milliseconds(time.Since(d.At))
	}
}

const refused = "refused"

// enqueued completes the entry of a job.
func (d *deed) enqueued(ctx context.Context, j *Job, err error) {
	if d == nil || err != nil {
		d.over(ctx, err)
		return
	}
	l, _ := ctx.Value(ledgerKey{}).(*Ledger)
	l.mu.Lock()
	defer l.mu.Unlock()
	d.job = j.jobState
}

func (d *deed) signal(sig syscall.Signal, to string) {
	if d != nil {
		d.Signal, d.To = unix.SignalName(sig), to
	}
}
