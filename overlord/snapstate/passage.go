// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"endured/overlord/state"
	"endured/snap"
)

// passages are locks, by snap: apps that are being started share one, a switch
// has it for itself. They are this process's alone: what other users could
// hold would keep every refresh from happening.
type passages struct {
	mu     sync.Mutex
	bySnap map[string]*passage
}

type passage struct {
	shared    int
	exclusive bool
	// queued switches come before apps that ask later.
	queued int
	users  int           // that hold it or wait
	moved  chan struct{} // closed when something above has changed
}

func (p *passage) free(exclusive bool) bool {
	if exclusive {
		return !p.exclusive && p.shared == 0
	}
	return !p.exclusive && p.queued == 0
}

func (p *passage) wake() {
	close(p.moved)
	p.moved = make(chan struct{})
}

// Enter waits until no switch of the snap is in progress and keeps one from
// beginning until leave is called. The error is the context's.
func (m *Manager) Enter(ctx context.Context, name string) (leave func(), err error) {
	return m.passages.take(ctx, name, false)
}

// Close waits until no app of the snap is being started and no other switch is
// in progress, and keeps both from beginning until open is called. The error
// is the context's.
func (m *Manager) Close(ctx context.Context, name string) (open func(), err error) {
	return m.passages.take(ctx, name, true)
}

func (ps *passages) take(ctx context.Context, name string, exclusive bool) (func(), error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.bySnap[name]
	if p == nil {
		p = &passage{moved: make(chan struct{})}
		ps.bySnap[name] = p
	}
	p.users++
	if exclusive {
		p.queued++
	}
	var err error
	for err == nil && !p.free(exclusive) {
		err = ps.wait(ctx, p)
	}
	if exclusive {
		p.queued--
	}
	switch {
	case err != nil:
		ps.quit(name, p)
		return nil, fmt.Errorf("cannot wait for the switch of snap %q: %w", name, err)
	case exclusive:
		p.exclusive = true
	default:
		p.shared++
	}
	return sync.OnceFunc(func() {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		if exclusive {
			p.exclusive = false
		} else {
			p.shared--
		}
		ps.quit(name, p)
	}), nil
}

// wait lets go of the mutex until the passage has moved.
func (ps *passages) wait(ctx context.Context, p *passage) error {
	moved := p.moved
	ps.mu.Unlock()
	defer ps.mu.Lock()
	select {
	case <-moved:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (ps *passages) quit(name string, p *passage) {
	p.wake()
	if p.users--; p.users == 0 {
		delete(ps.bySnap, name)
	}
}

// Serving describes the revision that the snap's "current" points at. Between
// Enter and leave it stays that; it may be one whose change has not ended. The
// error is a *NotInstalledError when there is none, or the snap is disabled.
func (m *Manager) Serving(name string) (*snap.Info, error) {
	link, err := os.Readlink(m.Dirs.Current(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotInstalledError{Snap: name}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find the current revision of snap %q: %w", name, err)
	}
	rev, err := snap.ParseRevision(filepath.Base(link))
	if err != nil {
		return nil, fmt.Errorf("cannot find the current revision of snap %q: %w", name, err)
	}
	var entry *Revision
	err = m.State.View(func(tx *state.Tx) error {
		rec, err := Get(tx, name)
		var none *NotInstalledError
		if err != nil && !errors.As(err, &none) {
			return err
		}
		if err == nil {
			entry = rec.Rev(rev)
		}
		if entry == nil { // the switch may be over and its commit not
			entry = arriving(tx, name, rev)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, &NotInstalledError{Snap: name, Revision: rev}
	}
	return m.Info(name, entry)
}

// arriving returns the revision that an unfinished change brings.
func arriving(tx *state.Tx, name string, rev snap.Revision) *Revision {
	for _, c := range tx.Unready() { // all changes of 500 snaps take seconds to read
		var s Setup
		if c.Get(setupKey+name, &s) == nil && s.Brings() && s.Rev.Revision == rev {
			return s.Rev
		}
	}
	return nil
}

// FlagsOf tells how a revision was installed, or is being installed: without
// any flag if there is no such revision.
func (m *Manager) FlagsOf(name string, rev snap.Revision) (Flags, error) {
	var flags Flags
	err := m.State.View(func(tx *state.Tx) error {
		rec, err := Get(tx, name)
		var none *NotInstalledError
		if err != nil && !errors.As(err, &none) {
			return err
		}
		var entry *Revision
		if err == nil {
			entry = rec.Rev(rev)
		}
		if entry == nil {
			entry = arriving(tx, name, rev)
		}
		if entry != nil {
			flags = entry.Flags
		}
		return nil
	})
	return flags, err
}

// Arriving tells whether an unfinished change brings the revision.
func (m *Manager) Arriving(name string, rev snap.Revision) bool {
	found := false
	err := m.State.View(func(tx *state.Tx) error {
		found = arriving(tx, name, rev) != nil
		return nil
	})
	return err == nil && found
}
