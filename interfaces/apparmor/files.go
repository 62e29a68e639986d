// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"endured/osutil"
	"endured/snap"
)

func setName(name string, rev snap.Revision) string { return name + "_" + rev.String() + ".json" }

func (s *Store) setPath(name string, rev snap.Revision) string {
	return filepath.Join(s.Dirs.ProfileSets(), setName(name, rev))
}

// sealPath is where it is noted that a revision's profiles are sealed. It is
// gone after a boot, as is every process that it matters to.
func (s *Store) sealPath(name string, rev snap.Revision) string {
	return filepath.Join(s.Dirs.Run(), "sealed", setName(name, rev))
}

// read returns the set of a revision with its seal, nil if there is none.
func (s *Store) read(name string, rev snap.Revision) (*Set, error) {
	var set Set
	if found, err := readJSON(s.setPath(name, rev), &set); err != nil || !found {
		return nil, err
	}
	var seal Seal
	found, err := readJSON(s.sealPath(name, rev), &seal)
	if found {
		set.Seal = &seal
	}
	return &set, err
}

func readJSON(path string, v any) (found bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return false, fmt.Errorf("cannot read what AppArmor profiles are made from: %s: %w", path, err)
	}
	return true, nil
}

// sets reads the sets of a snap, "" for all, by file name. One that cannot be read
// is an error, and does not hide the others.
func (s *Store) sets(of string) ([]*Set, error) {
	entries, err := os.ReadDir(s.Dirs.ProfileSets())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list AppArmor profiles: %w", err)
	}
	var out []*Set
	var errs []error
	for _, e := range entries {
		name, rest, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".json"), "_")
		rev, err := snap.ParseRevision(rest)
		if !ok || err != nil || of != "" && of != name {
			continue // another's, or not written here, or not completely
		}
		set, err := s.read(name, rev)
		switch {
		case err != nil:
			errs = append(errs, err)
		case set != nil:
			out = append(out, set)
		}
	}
	return out, errors.Join(errs...)
}

// write stores the set, and the text of its profiles as they are without a
// seal. The set is durable, and comes first: a text without one is nobody's.
func (s *Store) write(set *Set) error {
	if err := writeJSON(s.setPath(set.Snap, set.Revision), set, osutil.WriteFileSync); err != nil {
		return err
	}
	if err := s.note(set); err != nil {
		return err
	}
	return s.writeTexts(set)
}

func (s *Store) writeTexts(set *Set) error {
	texts, err := set.open().Texts()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dirs.Profiles(), 0o755); err != nil {
		return fmt.Errorf("cannot write AppArmor profiles: %w", err)
	}
	for label, text := range texts {
		if err := osutil.WriteFile(filepath.Join(s.Dirs.Profiles(), label), []byte(text), 0o644); err != nil {
			return fmt.Errorf("cannot write AppArmor profile %q: %w", label, err)
		}
	}
	return nil
}

// note stores whether a set is sealed.
func (s *Store) note(set *Set) error {
	path := s.sealPath(set.Snap, set.Revision)
	if set.Seal == nil {
		return remove(path)
	}
	return writeJSON(path, set.Seal, osutil.WriteFile)
}

func writeJSON(path string, v any, write func(string, []byte, fs.FileMode) error) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = write(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot write what AppArmor profiles are made from: %w", err)
	}
	return nil
}

// open returns the set without its seal.
func (s *Set) open() *Set {
	o := *s
	o.Seal = nil
	return &o
}
