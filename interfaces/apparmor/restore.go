// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"endured/snap"
)

// Restore loads every profile that is not in the kernel, or not as this
// program would write it: all of them at boot, before any service starts, and
// after an update of snapd those that it writes differently. A set that cannot
// be loaded does not keep others from it.
func (s *Store) Restore(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sets, err := s.sets("")
	errs := []error{err}
	var loaded []string
	if s.Enforced() {
		if loaded, err = s.Kernel.Loaded(); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	var stale []*Set
	var pieces []piece
	for _, set := range sets {
		fresh, err := s.fresh(set, loaded)
		if err == nil && !fresh {
			var more []piece
			more, err = s.pieces(set)
			stale, pieces = append(stale, set), append(pieces, more...)
		}
		errs = append(errs, err)
	}
	// where little is at hand, after an update of the kernel or the compiler, all of it is compiled in one go
	have, _, err := s.compiled(ctx, pieces)
	errs = append(errs, err)
	for _, set := range stale {
		if _, err = s.load(have, set); err == nil {
			err = s.writeTexts(set)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Store) fresh(set *Set, loaded []string) (bool, error) {
	texts, err := set.open().Texts()
	if err != nil {
		return false, err
	}
	for label, text := range texts {
		have, err := os.ReadFile(filepath.Join(s.Dirs.Profiles(), label))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("cannot read AppArmor profile %q: %w", label, err)
		}
		if string(have) != text || s.Enforced() && !slices.Contains(loaded, label) {
			return false, nil
		}
	}
	return true, nil
}

// Clean takes away the profiles of revisions that are not installed, and those
// that belong to no revision at all. What a process carries stays, see
// Lingering: without its profile it would be unconfined.
func (s *Store) Clean(installed func(name string, rev snap.Revision) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sets, err := s.sets("")
	if err != nil {
		return err // what cannot be read may be anybody's
	}
	var keep []string
	var errs []error
	for _, set := range sets {
		if !installed(set.Snap, set.Revision) {
			err := s.unload(set)
			var used *InUseError
			if !errors.As(err, &used) {
				errs = append(errs, err)
			}
			if err == nil {
				continue
			}
		}
		keep = append(keep, set.Labels()...)
	}
	strays, err := s.strays()
	errs = append(errs, err)
	for _, l := range strays {
		if slices.Contains(keep, l) {
			continue
		}
		err := s.drop([]string{l})
		var used *InUseError
		if errors.As(err, &used) {
			s.Log.Warn("an AppArmor profile of no installed snap stays", "profile", l, "pids", used.PIDs)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// strays lists what is called like a profile of a snap, in the kernel and
// among the texts.
func (s *Store) strays() ([]string, error) {
	var out []string
	if s.Enforced() {
		loaded, err := s.Kernel.Loaded()
		if err != nil {
			return nil, err
		}
		for _, l := range loaded {
			if strings.HasPrefix(l, "snap.") && !strings.ContainsAny(l, "/:") {
				out = append(out, l)
			}
		}
	}
	entries, err := os.ReadDir(s.Dirs.Profiles())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list AppArmor profiles: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "snap.") && !slices.Contains(out, e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
