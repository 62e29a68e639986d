// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// Reaper discards revisions that a change had to leave because something used
// them, as soon as nothing does: a revision lives exactly as long as it is
// used. It waits for the exits of processes and for the ends of changes, and
// looks at nothing in between.
type Reaper struct {
	m    *Manager
	kick chan struct{}
	end  context.CancelFunc
	all  sync.WaitGroup

	mu    sync.Mutex
	known map[leaving]progress
}

const (
	// again is the pause between two looks at who uses a revision.
	again = time.Second
	// patience is how long a command waits for a Reaper's change.
	patience = 20 * time.Second
)

// reaping is the kind of the changes that a Reaper makes.
const reaping = "discard-revision"

// update makes a change, once no Reaper's is in its way.
func (m *Manager) update(do func(tx *state.Tx) error) error {
	return m.afterReaping(func() error { return m.State.Update(do) })
}

// afterReaping does what may be refused because of another change. One of a
// Reaper was asked for by nobody and takes a moment: it is waited for.
func (m *Manager) afterReaping(do func() error) error {
	for {
		err := do()
		var conflict *snapstate.ConflictError
		if !errors.As(err, &conflict) || conflict.ChangeKind != reaping {
			return err
		}
		ctx, stop := context.WithTimeout(context.Background(), patience)
		werr := m.State.WaitChange(ctx, conflict.ChangeID)
		stop()
		if werr != nil {
			return err
		}
	}
}

type leaving struct {
	snap string
	rev  snap.Revision
}

type progress int

const (
	used  progress = iota // somebody waits for its users to go
	free                  // nothing uses it
	tried                 // a change was made for it; another daemon may try again
)

// NewReaper makes a Reaper, which does nothing before Start.
func NewReaper(m *Manager) *Reaper {
	return &Reaper{m: m, kick: make(chan struct{}, 1), known: map[leaving]progress{}}
}

// Start begins to watch. It ends with Stop.
func (r *Reaper) Start(ctx context.Context) {
	ctx, r.end = context.WithCancel(context.WithoutCancel(ctx))
	unwatch := r.m.State.AddChangeWatcher(func(string) { r.poke() })
	r.poke()
	r.all.Go(func() {
		defer unwatch()
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.kick:
				if err := r.look(ctx); err != nil && ctx.Err() == nil {
					r.m.Log.Warn("cannot discard revisions that are not used any more", "err", err)
				}
			}
		}
	})
}

// Stop ends what Start began.
func (r *Reaper) Stop() {
	if r.end != nil {
		r.end()
		r.all.Wait()
	}
}

func (r *Reaper) poke() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// look waits for the users of what is new on the list, and discards what has
// lost them.
func (r *Reaper) look(ctx context.Context) error {
	var list map[string][]snap.Revision
	err := r.m.State.View(func(tx *state.Tx) (err error) {
		list, err = snapstate.Leaving(tx)
		return err
	})
	if err != nil {
		return err
	}
	r.forget(list)
	var errs []error
	for name, revs := range list {
		for _, rev := range revs {
			l := leaving{name, rev}
			p, known := r.get(l)
			switch {
			case !known:
				r.set(l, used)
				r.all.Go(func() { r.await(ctx, l) })
			case p == free:
				errs = append(errs, r.reap(l))
			}
		}
	}
	return errors.Join(errs...)
}

// await returns when nothing uses the revision, or it is not installed any more.
func (r *Reaper) await(ctx context.Context, l leaving) {
	for ctx.Err() == nil {
		rec, err := r.m.Installed.Lookup(l.snap)
		if err != nil || rec.Rev(l.rev) == nil {
			break // its change says the rest
		}
		use, err := r.m.Installed.InUse(ctx, rec, l.rev)
		if err != nil {
			r.m.Log.Warn("cannot tell whether a revision is used", "snap", l.snap, "revision", l.rev, "err", err)
			r.drop(l) // the end of the next change asks again
			return
		}
		if !use.Pinned() {
			break
		}
		if err := osutil.WaitPIDs(ctx, use.PIDs); err != nil {
			r.drop(l)
			return
		}
		select { // PID 1 takes a moment to notice, and what remains must not keep this busy
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
	r.set(l, free)
	r.poke()
}

// reap makes the change. While another one works on the snap it is left for
// the end of that one.
func (r *Reaper) reap(l leaving) error {
	rec, err := r.m.Installed.Lookup(l.snap)
	if err != nil || rec.Rev(l.rev) == nil {
		return nil
	}
	if rec.Current == l.rev {
		return r.m.State.Update(func(tx *state.Tx) error { return snapstate.Stays(tx, rec, l.rev) })
	}
	rc := &recipe{setup: &snapstate.Setup{
		Snap: l.snap, Event: lifecycle.Remove, From: rec.Current, To: rec.Current, Only: l.rev,
	}}
	rc.add("discard-revisions", "Discard revision %s of snap %q", l.rev, l.snap)
	summary := fmt.Sprintf("Discard revision %s of snap %q, which nothing uses any more", l.rev, l.snap)
	_, err = r.m.start(reaping, summary, unchanged(l.snap, rec.Current, rec.Active), rc)
	var conflict *snapstate.ConflictError
	if errors.As(err, &conflict) {
		return nil
	}
	if err == nil {
		r.set(l, tried)
	}
	return err
}

func (r *Reaper) get(l leaving) (progress, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.known[l]
	return p, ok
}

func (r *Reaper) set(l leaving, p progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[l] = p
}

func (r *Reaper) drop(l leaving) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, l)
}

// forget drops what is not on the list any more: a revision of that number may
// come again.
func (r *Reaper) forget(list map[string][]snap.Revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.known {
		if !slices.Contains(list[l.snap], l.rev) {
			delete(r.known, l)
		}
	}
}
