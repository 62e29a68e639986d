// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"time"

	"endured/dirs"
	"endured/snap"
)

// Config is what a Store is made of.
type Config struct {
	Dirs     dirs.Dirs
	Kernel   Kernel
	Compiler Compiler
	Log      *slog.Logger
}

// Store keeps the profiles of all snaps: what they are made from, their text,
// and, where the host has AppArmor, what the kernel has loaded. Where it has
// not, everything succeeds and nothing is enforced.
type Store struct {
	Config
	off     error // why nothing is enforced
	labels  bool
	mu      sync.Mutex
	version string // of the kernel's features and the compiler, "" if not known yet
	lingers map[Key][]int
	more    chan struct{}
	refused map[string]bool // what is known not to compile, as piece.file
}

// NewStore makes a Store. What the host offers is looked at once, now.
func NewStore(c Config) *Store {
	s := &Store{Config: c, lingers: map[Key][]int{}, more: make(chan struct{}, 1), refused: map[string]bool{}}
	noKernel, noParser := c.Kernel.Check(), c.Compiler.Check()
	s.off = errors.Join(noKernel, noParser)
	s.labels = noParser == nil && (noKernel == nil || errors.Is(noKernel, ErrOff))
	return s
}

// Enforced tells whether profiles have an effect here.
func (s *Store) Enforced() bool { return s.off == nil }

// WhyNot says why profiles have no effect, nil if they have.
func (s *Store) WhyNot() error { return s.off }

// Labels tells whether units should name the profiles of their services. On a
// kernel that has AppArmor off the name means nothing, and is right once it is
// on; where profiles cannot be loaded nothing could start under one.
func (s *Store) Labels() bool { return s.labels }

// Cost is what it took to get profiles into the kernel.
type Cost struct {
	Compile time.Duration // 0 if the result was at hand
	Load    time.Duration
}

// String says "compiled in 12.3 ms, loaded in 0.4 ms".
func (c Cost) String() string {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("compiled in %.1f ms, loaded in %.1f ms", ms(c.Compile), ms(c.Load))
}

// Load makes sets the ones in force for their revisions. Nothing else is
// touched: other revisions have other names. Profiles whose text was not compiled
// before are compiled in one go, and all are loaded in one go. After an error
// everything is as it was.
func (s *Store) Load(ctx context.Context, sets ...*Set) (Cost, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replace(ctx, sets, nil)
}

// replace loads sets, and has seals at hand afterwards.
func (s *Store) replace(ctx context.Context, sets, seals []*Set) (cost Cost, err error) {
	olds := make([]*Set, len(sets))
	var all []*Set
	for i, set := range sets {
		if olds[i], err = s.read(set.Snap, set.Revision); err != nil {
			return cost, err
		}
		all = append(all, set)
		if set.Seal != nil { // the next boot needs it without
			all = append(all, set.open())
		}
	}
	have, seals, took, err := s.ready(ctx, all, seals)
	cost.Compile = took
	if err != nil {
		return cost, err
	}
	if cost.Load, err = s.load(have, sets...); err != nil {
		return cost, err
	}
	for i, set := range sets {
		err = s.write(set)
		if err == nil && olds[i] != nil {
			err = s.drop(goneLabels(olds[i], set))
		}
		if err != nil {
			return cost, errors.Join(err, s.putBack(ctx, olds, sets))
		}
	}
	for _, set := range sets {
		delete(s.lingers, Key{set.Snap, set.Revision})
		s.prune(set.Snap, seals...)
	}
	return cost, nil
}

// putBack makes older sets, nil for none, the ones in force again.
func (s *Store) putBack(ctx context.Context, olds, failed []*Set) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for i, old := range olds {
		if old == nil {
			errs = append(errs, s.unload(failed[i]))
			continue
		}
		err := s.write(old)
		if err == nil {
			_, err = s.enforce(ctx, old)
		}
		errs = append(errs, err, s.drop(goneLabels(failed[i], old)))
	}
	return errors.Join(errs...)
}

func goneLabels(old, set *Set) []string {
	have := set.Labels()
	return slices.DeleteFunc(old.Labels(), func(l string) bool { return slices.Contains(have, l) })
}

// InUseError says that profiles stay because processes carry them: without
// their profiles they would be unconfined.
type InUseError struct {
	Label string // the first of them
	PIDs  []int
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("cannot unload AppArmor profile %q: carried by %d processes, among them pid %d", e.Label, len(e.PIDs), e.PIDs[0])
}

// Unload takes the profiles of a revision away. The error is an *InUseError,
// and they stay, as long as a process carries one of them; see Lingering.
func (s *Store) Unload(_ context.Context, name string, rev snap.Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.read(name, rev)
	if err != nil || set == nil {
		return err
	}
	return s.unload(set)
}

func (s *Store) unload(set *Set) error {
	if err := s.linger(set, s.drop(set.Labels())); err != nil {
		return err
	}
	for _, path := range []string{s.setPath(set.Snap, set.Revision), s.sealPath(set.Snap, set.Revision)} {
		if err := remove(path); err != nil {
			return err
		}
	}
	s.prune(set.Snap)
	return nil
}

// drop removes profiles by name, from the kernel and their texts.
func (s *Store) drop(labels []string) error {
	if len(labels) == 0 {
		return nil
	}
	if s.Enforced() {
		loaded, err := s.Kernel.Loaded()
		if err != nil {
			return err
		}
		carriers, err := s.Kernel.Carriers()
		if err != nil {
			return err
		}
		for _, l := range labels {
			if pids := carriers[l]; len(pids) > 0 {
				sort.Ints(pids)
				return &InUseError{Label: l, PIDs: pids}
			}
		}
		for _, l := range labels {
			if !slices.Contains(loaded, l) {
				continue
			}
			if err := s.Kernel.Remove(l); err != nil {
				return fmt.Errorf("cannot unload AppArmor profile %q: %w", l, err)
			}
		}
	}
	for _, l := range labels {
		if err := remove(filepath.Join(s.Dirs.Profiles(), l)); err != nil {
			return err
		}
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	return nil
}

// Set returns what the profiles of a revision are made from, nil if it has none.
func (s *Store) Set(name string, rev snap.Revision) (*Set, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read(name, rev)
}

// Revisions lists the revisions of a snap that have profiles.
func (s *Store) Revisions(name string) ([]snap.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sets, err := s.sets(name)
	var out []snap.Revision
	for _, set := range sets {
		out = append(out, set.Revision)
	}
	return out, err
}
