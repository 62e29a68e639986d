// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Undo remembers how to take back what was done, latest first. The zero value
// is empty and ready; it may be used from several goroutines.
type Undo struct {
	mu    sync.Mutex
	steps []undoStep
}

type undoStep struct {
	name string
	fn   func(context.Context) error
}

// Add puts a step on top. The name completes "cannot undo …" in errors.
func (u *Undo) Add(name string, fn func(context.Context) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.steps = append(u.steps, undoStep{name, fn})
}

// Run takes every step, latest first, also after one has failed or ctx is
// done (a step that cares looks itself), and leaves u empty. Steps that a step
// adds are run as well. The errors are joined.
func (u *Undo) Run(ctx context.Context) error {
	var errs []error
	for {
		s, ok := u.pop()
		if !ok {
			return errors.Join(errs...)
		}
		if err := s.fn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("cannot undo %s: %w", s.name, err))
		}
	}
}

func (u *Undo) pop() (undoStep, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.steps)
	if n == 0 {
		return undoStep{}, false
	}
	s := u.steps[n-1]
	u.steps = u.steps[:n-1]
	return s, true
}

// Discard forgets every step: what was done stays.
func (u *Undo) Discard() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.steps = nil
}

// Len is the number of steps that Run would take.
func (u *Undo) Len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.steps)
}
