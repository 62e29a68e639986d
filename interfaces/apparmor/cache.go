// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"endured/osutil"
)

// piece is one profile: what is compiled by itself, and kept as long as its text
// is needed. The text holds the revision, in its name and in its rules, and so
// does the result: revisions share none.
type piece struct {
	label, text string
	file        string // in the cache; named for what the content was made from
}

// pieces are the profiles of sets, each in the order of its labels. It fails for
// a name or a rule that would mean something else to AppArmor than what it says.
func (s *Store) pieces(sets ...*Set) ([]piece, error) {
	var out []piece
	for _, set := range sets {
		texts, err := set.Texts()
		if err != nil {
			return nil, err
		}
		if !s.Enforced() {
			continue // nothing is made of them
		}
		if s.version == "" {
			features, err := s.Kernel.Features()
			if err != nil {
				return nil, err
			}
			s.version = features + s.Compiler.ID()
		}
		for _, label := range set.Labels() {
			sum := sha256.Sum256([]byte(s.version + "\n" + texts[label]))
			out = append(out, piece{label, texts[label], label + "_" + hex.EncodeToString(sum[:16])})
		}
	}
	return out, nil
}

// enforce compiles sets, but for what is at hand, and loads them, all or none.
// Where nothing is enforced they are only checked.
func (s *Store) enforce(ctx context.Context, sets ...*Set) (cost Cost, err error) {
	pieces, err := s.pieces(sets...)
	if err != nil {
		return cost, err
	}
	have, took, err := s.compiled(ctx, pieces)
	cost.Compile = took
	if err != nil {
		return cost, err
	}
	cost.Load, err = s.load(have, sets...)
	return cost, err
}

// load puts sets of a snap into the kernel, all or none, and have is what they are
// compiled, by piece.file.
func (s *Store) load(have map[string][]byte, sets ...*Set) (took time.Duration, err error) {
	pieces, err := s.pieces(sets...)
	if err != nil || len(pieces) == 0 {
		return 0, err
	}
	revs := make([]string, len(sets))
	for i, set := range sets {
		revs[i] = set.Revision.String()
	}
	of := fmt.Sprintf("of snap %q (%s)", sets[0].Snap, strings.Join(revs, ", "))
	var all []byte
	for _, p := range pieces {
		if have[p.file] == nil {
			return 0, fmt.Errorf("cannot load AppArmor profiles %s: %s was not compiled", of, p.label)
		}
		all = append(all, have[p.file]...)
	}
	began := time.Now()
	if err := s.Kernel.Replace(all); err != nil {
		for _, p := range pieces { // one may be what the kernel does not like
			os.Remove(s.cachePath(p.file))
		}
		return 0, fmt.Errorf("cannot load AppArmor profiles %s: %w", of, err)
	}
	return time.Since(began), nil
}

func (s *Store) cachePath(file string) string { return filepath.Join(s.Dirs.ProfileCache(), file) }

// compiled returns what the kernel takes for each piece, by piece.file, and how
// long compiling took, 0 if all was at hand. Whatever is not is compiled in one
// go. With an error, what did compile is there all the same.
func (s *Store) compiled(ctx context.Context, pieces []piece) (have map[string][]byte, took time.Duration, err error) {
	have, lack := map[string][]byte{}, map[string]string{}
	for _, p := range pieces {
		if data := s.cached(p.file); data != nil {
			have[p.file] = data
		} else {
			lack[p.file] = p.text
		}
	}
	if len(lack) == 0 {
		return have, 0, nil
	}
	began := time.Now()
	fresh, err := s.Compiler.Compile(ctx, filepath.Join(s.Dirs.Run(), "compile"), lack)
	took = time.Since(began)
	for file, data := range fresh {
		have[file] = data
		if err := s.keep(file, data); err != nil {
			s.Log.Warn("compiled AppArmor profiles are not kept, and will have to be compiled again", "err", err)
		}
	}
	return have, took, err
}

// cached returns what is kept of a compiled profile, nil if there is nothing. What a
// loss of power or a full disk cut short is nothing.
func (s *Store) cached(file string) []byte {
	data, err := os.ReadFile(s.cachePath(file))
	if err != nil || len(data) <= sha256.Size {
		return nil
	}
	body := data[sha256.Size:]
	if sha256.Sum256(body) != [sha256.Size]byte(data[:sha256.Size]) {
		return nil
	}
	return body
}

func (s *Store) keep(file string, data []byte) error {
	if err := os.MkdirAll(s.Dirs.ProfileCache(), 0o755); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	return osutil.WriteFile(s.cachePath(file), slices.Concat(sum[:], data), 0o600)
}

// Prune drops what is kept compiled and nothing needs any more, but of snaps that
// are busy: seals may be prepared for those.
func (s *Store) Prune(busy func(name string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sets, err := s.sets("")
	if err != nil {
		return err // what cannot be read may be anybody's
	}
	s.drain(func(name string) bool { return name == "" || !busy(name) }, sets)
	return nil
}

// prune is Prune for one snap, and leaves the given variants of sets.
func (s *Store) prune(name string, variants ...*Set) {
	if sets, err := s.sets(name); err == nil {
		s.drain(func(of string) bool { return of == name }, append(sets, variants...))
	}
}

// drain drops what is kept of some snaps, "" is for what is nobody's, and the sets
// do not need: as they are without a seal, for a boot and for going back, and as
// they are now. Where nothing is enforced the next boot may.
func (s *Store) drain(of func(name string) bool, sets []*Set) {
	need := map[string]bool{}
	for _, set := range sets {
		pieces, err := s.pieces(set, set.open())
		if err != nil {
			return
		}
		for _, p := range pieces {
			need[p.file] = true
		}
		for _, label := range set.Labels() {
			need[label] = !s.Enforced()
		}
	}
	entries, err := os.ReadDir(s.Dirs.ProfileCache())
	if err != nil {
		return // there is none
	}
	for _, e := range entries {
		label, _, _ := strings.Cut(e.Name(), "_")
		name, _, _, _ := ParseLabel(label)
		if of(name) && !need[e.Name()] && !need[label] {
			os.Remove(s.cachePath(e.Name())) // a cache: what stays costs space only
		}
	}
}
