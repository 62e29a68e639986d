// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"endured/snap"
)

// PrepareSeal compiles what Seal will load, so that it takes no time then.
// Nothing is loaded and nothing changes.
func (s *Store) PrepareSeal(ctx context.Context, name string, rev, successor snap.Revision, follow []string) (Cost, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.sealed(name, rev, successor, follow)
	if err != nil || set == nil || !s.Enforced() {
		return Cost{}, err
	}
	_, _, took, err := s.sealable(ctx, set)
	return Cost{Compile: took}, err
}

// Seal replaces the profiles of one revision by ones that allow all that they
// did, except for changing anything in the revision's $SNAP_DATA. Processes
// that carry them are under the new ones at once. With a successor, 0 for
// none, a process of the apps that follow gets that revision's profile as it
// executes a program of it; others get nothing of that revision. Classic snaps,
// and revisions without profiles, are left as they are. It may be called again,
// with nil for those that followed before.
//
// Not reached are descriptors that are open for writing already, and mappings.
func (s *Store) Seal(ctx context.Context, name string, rev, successor snap.Revision, follow []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.sealed(name, rev, successor, follow)
	if err != nil || set == nil {
		return err
	}
	if s.Enforced() {
		compiled, chosen, _, err := s.sealable(ctx, set)
		if err == nil {
			err = s.Kernel.Replace(compiled)
		}
		if err != nil {
			return fmt.Errorf("cannot seal the data of snap %q (%s): %w", name, rev, err)
		}
		set = chosen
	}
	return s.note(set)
}

// Unseal gives back what Seal took. It may be called for what is not sealed.
func (s *Store) Unseal(ctx context.Context, name string, rev snap.Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.read(name, rev)
	if err != nil || set == nil || set.Mode == Unconfined {
		return err
	}
	// loaded also if it is not noted as sealed: a crash may have come between
	if _, _, err := s.enforce(ctx, set.open()); err != nil {
		return fmt.Errorf("cannot unseal the data of snap %q (%s): %w", name, rev, err)
	}
	return s.note(set.open())
}

// Sealed tells whether the profiles of a revision are sealed, and in force.
func (s *Store) Sealed(name string, rev snap.Revision) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.read(name, rev)
	return err == nil && set != nil && set.Seal != nil && s.Enforced(), err
}

// sealed returns the sealed variant of a revision's set, nil if it has none.
func (s *Store) sealed(name string, rev, successor snap.Revision, follow []string) (*Set, error) {
	set, err := s.read(name, rev)
	if err != nil || set == nil || set.Mode == Unconfined {
		return nil, err
	}
	if follow == nil && set.Seal != nil && set.Seal.Successor == successor {
		follow = set.Seal.Into
	}
	set.Seal = &Seal{}
	if successor.Unset() || successor == rev {
		return set, nil
	}
	next, err := s.read(name, successor)
	if err != nil || next == nil {
		return set, err
	}
	set.Seal.Successor = successor
	for i := range next.Profiles {
		if n := next.Profiles[i].Name(); slices.Contains(follow, n) {
			set.Seal.Into = append(set.Seal.Into, n)
		}
	}
	return set, nil
}

// sealable compiles a sealed set. Where an interface says how everything is
// executed, the successor's programs cannot be an exception, and are none.
func (s *Store) sealable(ctx context.Context, set *Set) (data []byte, chosen *Set, took time.Duration, err error) {
	plain := *set
	plain.Seal = &Seal{}
	for _, try := range []*Set{set, &plain} {
		if data, _, err := s.cached(try); err != nil || data != nil {
			return data, try, 0, err
		}
	}
	data, _, took, err = s.compiled(ctx, set)
	if err == nil || len(set.Seal.Into) == 0 || ctx.Err() != nil {
		return data, set, took, err
	}
	s.Log.Info("processes of a snap keep their profile when they execute its next revision",
		"snap", set.Snap, "revision", set.Revision.String(), "because", err.Error())
	data, _, more, err := s.compiled(ctx, &plain)
	return data, &plain, took + more, err
}
