// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"errors"

	"endured/snap"
)

// Key names the profiles of one revision.
type Key struct {
	Snap     string
	Revision snap.Revision
}

// Lingering is a revision that is gone and whose profiles stay, because
// processes carry them.
type Lingering struct {
	Key
	PIDs []int // that carry one of them
}

// Lingering lists what could not be unloaded since the Store was made, and was
// neither unloaded nor loaded anew since.
func (s *Store) Lingering() []Lingering {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Lingering
	for of, pids := range s.lingers {
		out = append(out, Lingering{of, pids})
	}
	return out
}

// Lingers is sent to when there is more on the list of Lingering.
func (s *Store) Lingers() <-chan struct{} { return s.more }

// UnloadLingering is Unload for what is on the list of Lingering, and nothing for
// anything else: a revision of that number may have come again.
func (s *Store) UnloadLingering(name string, rev snap.Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.lingers[Key{name, rev}]; !ok {
		return nil
	}
	set, err := s.read(name, rev)
	if err != nil || set == nil {
		delete(s.lingers, Key{name, rev})
		return err
	}
	return s.unload(set)
}

// linger keeps the list of Lingering, after an attempt to unload a set.
func (s *Store) linger(set *Set, err error) error {
	of := Key{set.Snap, set.Revision}
	delete(s.lingers, of)
	var used *InUseError
	if !errors.As(err, &used) {
		return err
	}
	s.lingers[of] = used.PIDs
	select {
	case s.more <- struct{}{}:
	default:
	}
	return err
}
