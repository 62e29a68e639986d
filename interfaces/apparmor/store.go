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
}

// NewStore makes a Store. What the host offers is looked at once, now.
func NewStore(c Config) *Store {
	s := &Store{Config: c, lingers: map[Key][]int{}, more: make(chan struct{}, 1)}
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

// Load makes the set's profiles the ones in force for their revision. Nothing
// else is touched: other revisions have other names. All of them are compiled
// in one go, and only if that was not done before for the same text. After an
// error everything is as it was.
func (s *Store) Load(ctx context.Context, set *Set) (Cost, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.read(set.Snap, set.Revision)
	if err != nil {
		return Cost{}, err
	}
	delete(s.lingers, Key{set.Snap, set.Revision})
	cost, keep, err := s.enforce(ctx, set)
	if err != nil {
		return cost, err
	}
	err = s.write(set)
	if err == nil && old != nil {
		err = s.drop(goneLabels(old, set))
	}
	if err != nil {
		return cost, errors.Join(err, s.putBack(ctx, old, set))
	}
	s.prune(set, keep)
	return cost, nil
}

// putBack makes an older set, nil for none, the one in force again.
func (s *Store) putBack(ctx context.Context, old, failed *Set) error {
	ctx = context.WithoutCancel(ctx)
	if old == nil {
		return s.unload(failed)
	}
	if err := s.write(old); err != nil {
		return err
	}
	_, _, err := s.enforce(ctx, old)
	return err
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
	s.prune(set)
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
	sets, err := s.all()
	var out []snap.Revision
	for _, set := range sets {
		if set.Snap == name {
			out = append(out, set.Revision)
		}
	}
	return out, err
}
