// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// Record is what is known of every machine; a program embeds it in its own, which it keeps as JSON in the machine's
// directory.
type Record struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	PID     int       `json:"pid,omitempty"`   // of the process that is the machine; 0 while it is down
	Birth   string    `json:"birth,omitempty"` // start time of PID in clock ticks, against reuse
	// Owner is a process whose death makes the machine a leftover; 0 for one that is nobody's.
	Owner      int    `json:"owner,omitempty"`
	OwnerBirth string `json:"owner-birth,omitempty"`
}

// SetPID records the process that is the machine, 0 when it is down.
func (r *Record) SetPID(pid int) { r.PID, r.Birth = pid, birthOf(pid) }

// SetOwner records the process for which the machine runs, 0 for nobody's.
func (r *Record) SetOwner(pid int) { r.Owner, r.OwnerBirth = pid, birthOf(pid) }

// Running says whether the process that was recorded still is.
func (r *Record) Running() bool { return r.PID != 0 && Birth(r.PID) == r.Birth }

// Orphaned says whether the machine was started on behalf of a process that is gone.
func (r *Record) Orphaned() bool { return r.Owner != 0 && Birth(r.Owner) != r.OwnerBirth }

func birthOf(pid int) string {
	if pid == 0 {
		return ""
	}
	return Birth(pid)
}

// Take locks a machine and reads its record, a struct that embeds Record. The lock is held, and unlock to be called,
// if err is nil.
func Take[R any](ctx context.Context, d Dir, name string) (r *R, unlock func(), err error) {
	unlock, err = d.Lock(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	r = new(R)
	if err := d.Load(name, r); err != nil {
		unlock()
		return nil, nil, err
	}
	return r, unlock, nil
}

// List writes one line per machine.
func (d Dir) List(out io.Writer) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tPID\tAGE\tOWNER")
	for _, name := range names {
		var r Record
		if err := d.Load(name, &r); err != nil {
			fmt.Fprintf(w, "%s\tbroken\t-\t-\t-\n", name)
			continue
		}
		state, pid, owner := "down", "-", "-"
		if r.Running() {
			state, pid = "running", fmt.Sprint(r.PID)
		}
		if r.Owner != 0 {
			owner = fmt.Sprint(r.Owner)
		}
		if r.Orphaned() {
			owner += " (gone)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, state, pid, time.Since(r.Created).Round(time.Second), owner)
	}
	return w.Flush()
}

// Clean removes, by remove, the machines whose owner is gone and those that are down and nobody's; with all, every
// one. others are names of which something is left though there may be no record: without one there is nothing to keep.
// A machine that is locked is in use by a living program and left alone. remove is called with the lock held and told
// whether there is a record.
func (d Dir) Clean(ctx context.Context, others []string, all bool, remove func(name string, recorded bool) error) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	done := make(map[string]bool)
	var errs []error
	for _, name := range append(names, others...) {
		if done[name] || !ValidName(name) {
			continue
		}
		done[name] = true
		errs = append(errs, d.cleanOne(ctx, name, all, remove))
	}
	os.Remove(d.Path)
	return errors.Join(errs...)
}

func (d Dir) cleanOne(ctx context.Context, name string, all bool, remove func(name string, recorded bool) error) error {
	wait, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	unlock, err := d.Lock(wait, name)
	if err != nil {
		// Somebody is starting or stopping it right now.
		return nil
	}
	defer unlock()
	var r Record
	recorded := d.Load(name, &r) == nil
	if recorded && !all && !r.Orphaned() && (r.Running() || r.Owner != 0) {
		return nil
	}
	fmt.Printf("removing %s\n", name)
	return remove(name, recorded)
}
