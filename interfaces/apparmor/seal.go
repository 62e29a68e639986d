// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"endured/snap"
)

// Left is a revision that processes stay at while another is current.
type Left struct {
	Revision snap.Revision
	// Follow are the apps, by Profile.Name, that are told of the one that is
	// current: as they execute a program of it they get its profile. Those that
	// were told of an earlier one need not be named again.
	Follow []string
}

// Setup is Load for the set of a revision that is to become current, and compiles
// what Seal and Redirect will load for the ones that are left, all in one go and
// before anything is loaded.
func (s *Store) Setup(ctx context.Context, set *Set, left ...Left) (Cost, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seals, err := s.seals(set.Snap, set, left)
	if err != nil {
		return Cost{}, err
	}
	return s.replace(ctx, []*Set{set}, seals)
}

// PrepareSeal compiles what Seal and Redirect will load, so that it takes no time
// then. Nothing is loaded and nothing changes.
func (s *Store) PrepareSeal(ctx context.Context, name string, successor snap.Revision, left ...Left) (Cost, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.successor(name, successor)
	if err != nil {
		return Cost{}, err
	}
	seals, err := s.seals(name, next, left)
	if err != nil {
		return Cost{}, err
	}
	_, _, took, err := s.ready(ctx, nil, seals)
	return Cost{Compile: took}, err
}

// Seal replaces the profiles of one revision by ones that allow all that they
// did, except for changing anything in the revision's $SNAP_DATA. Processes
// that carry them are under the new ones at once. With a successor, 0 for
// none, a process of the apps that follow gets that revision's profile as it
// executes a program of it; others get nothing of that revision. Classic snaps,
// and revisions without profiles, are left as they are. It may be called again.
//
// Not reached are descriptors that are open for writing already, and mappings.
func (s *Store) Seal(ctx context.Context, name string, successor snap.Revision, left Left) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.successor(name, successor)
	if err != nil {
		return err
	}
	set, err := s.sealed(name, next, left)
	if err != nil || set == nil {
		return err
	}
	if err := s.sealAs(ctx, set); err != nil {
		return fmt.Errorf("cannot seal the data of snap %q (%s): %w", name, left.Revision, err)
	}
	return nil
}

// Redirect has the processes of older revisions that were told of one that was
// current then, and those that are told now, follow the successor instead. What
// has no process any more is left as it is.
func (s *Store) Redirect(ctx context.Context, name string, successor snap.Revision, told ...Left) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.successor(name, successor)
	if err != nil {
		return err
	}
	seals, err := s.seals(name, next, told)
	if err != nil {
		return err
	}
	seals = slices.DeleteFunc(seals, func(set *Set) bool {
		now, err := s.read(name, set.Revision)
		return err == nil && now != nil && reflect.DeepEqual(now.Seal, set.Seal)
	})
	if err := s.sealAs(ctx, seals...); err != nil {
		return fmt.Errorf("cannot have older processes of snap %q follow revision %s: %w", name, successor, err)
	}
	return nil
}

// sealAs puts sealed sets in force.
func (s *Store) sealAs(ctx context.Context, seals ...*Set) error {
	have, chosen, _, err := s.ready(ctx, nil, seals)
	if err != nil {
		return err
	}
	if _, err := s.load(have, chosen...); err != nil {
		return err
	}
	for _, set := range chosen {
		err = errors.Join(err, s.note(set))
	}
	return err
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
	if _, err := s.enforce(ctx, set.open()); err != nil {
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

// successor returns the set of the revision that processes may follow, or
// one without profiles if there is none.
func (s *Store) successor(name string, rev snap.Revision) (*Set, error) {
	none := &Set{Snap: name}
	if rev.Unset() {
		return none, nil
	}
	set, err := s.read(name, rev)
	if set == nil {
		set = none
	}
	return set, err
}

// sealed returns the sealed variant of a revision's set, nil if it has none.
func (s *Store) sealed(name string, next *Set, left Left) (*Set, error) {
	set, err := s.read(name, left.Revision)
	if err != nil || set == nil || set.Mode == Unconfined {
		return nil, err
	}
	follow := left.Follow
	if set.Seal != nil {
		follow = slices.Concat(follow, set.Seal.Into)
	}
	set.Seal = &Seal{}
	if next.Revision.Unset() || next.Revision == left.Revision {
		return set, nil
	}
	set.Seal.Successor = next.Revision
	for i := range next.Profiles {
		if n := next.Profiles[i].Name(); slices.Contains(follow, n) {
			set.Seal.Into = append(set.Seal.Into, n)
		}
	}
	return set, nil
}

// seals returns the sealed variants of revisions that are left for a successor,
// and of older ones with processes that were told of an earlier one.
func (s *Store) seals(name string, next *Set, left []Left) ([]*Set, error) {
	sets, err := s.sets(name)
	if err != nil {
		return nil, err
	}
	var carriers map[string][]int
	var out []*Set
	for _, set := range sets {
		n := slices.IndexFunc(left, func(l Left) bool { return l.Revision == set.Revision })
		l := Left{Revision: set.Revision}
		switch {
		case set.Revision == next.Revision:
			continue
		case n >= 0:
			l = left[n]
		case set.Seal == nil || len(set.Seal.Into) == 0 || next.Revision.Unset() || !s.Enforced():
			continue
		default:
			if carriers == nil {
				if carriers, err = s.Kernel.Carriers(); err != nil {
					return nil, err
				}
			}
			if !slices.ContainsFunc(set.Labels(), func(label string) bool { return len(carriers[label]) > 0 }) {
				continue
			}
		}
		sealed, err := s.sealed(name, next, l)
		if err != nil {
			return nil, err
		}
		if sealed != nil {
			out = append(out, sealed)
		}
	}
	return out, nil
}

// ready compiles sets as they are, and sealed ones as far as they can be, all in
// one go. Where an interface says how everything is executed, the successor's
// programs cannot be an exception, and are none in the variants that are returned.
func (s *Store) ready(ctx context.Context, sets, seals []*Set) (have map[string][]byte, chosen []*Set, took time.Duration, err error) {
	refused := map[string]bool{}
	for {
		var pieces, exceptions []piece
		if chosen, exceptions, err = s.possible(seals, refused); err != nil {
			return nil, nil, took, err
		}
		if pieces, err = s.pieces(slices.Concat(sets, chosen)...); err != nil {
			return nil, nil, took, err
		}
		var more time.Duration
		have, more, err = s.compiled(ctx, pieces)
		took += more
		if err == nil || ctx.Err() != nil {
			break
		}
		known := len(refused)
		for _, p := range exceptions {
			if have[p.file] == nil {
				refused[p.file] = true
			}
		}
		if len(refused) == known {
			return nil, nil, took, err
		}
		s.Log.Info("processes of a snap keep their profile when they execute its next revision",
			"snap", chosen[0].Snap, "because", err.Error())
	}
	if err == nil {
		maps.Copy(s.refused, refused)
	}
	return have, chosen, took, err
}

// possible returns sealed sets without the exceptions that are known not to
// compile, and the profiles that still have one.
func (s *Store) possible(seals []*Set, refused map[string]bool) (chosen []*Set, exceptions []piece, err error) {
	for _, set := range seals {
		pieces, err := s.pieces(set)
		if err != nil {
			return nil, nil, err
		}
		seal := Seal{Successor: set.Seal.Successor}
		for _, name := range set.Seal.Into {
			n := slices.IndexFunc(pieces, func(p piece) bool { return p.label == Label(set.Snap, name, set.Revision) })
			if n >= 0 && (refused[pieces[n].file] || s.refused[pieces[n].file]) {
				continue
			}
			seal.Into = append(seal.Into, name)
			if n >= 0 {
				exceptions = append(exceptions, pieces[n])
			}
		}
		as := *set
		as.Seal = &seal
		chosen = append(chosen, &as)
	}
	return chosen, exceptions, nil
}
