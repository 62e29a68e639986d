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

// enforce compiles a set, or finds it compiled, and loads it. keep is the file
// it is cached in. Where nothing is enforced the set is only checked.
func (s *Store) enforce(ctx context.Context, set *Set) (cost Cost, keep string, err error) {
	if _, err := set.Texts(); err != nil || !s.Enforced() || len(set.Profiles) == 0 {
		return cost, "", err
	}
	compiled, keep, took, err := s.compiled(ctx, set)
	cost.Compile = took
	if err != nil {
		return cost, "", err
	}
	began := time.Now()
	err = s.Kernel.Replace(compiled)
	cost.Load = time.Since(began)
	if err != nil {
		os.Remove(keep) // it may be what the kernel does not like
		return cost, "", fmt.Errorf("cannot load AppArmor profiles of snap %q (%s): %w", set.Snap, set.Revision, err)
	}
	return cost, keep, nil
}

// cachePath is where the compiled set lies: its name says what it was made from.
func (s *Store) cachePath(set *Set) (path, policy string, err error) {
	if policy, err = set.policy(); err != nil {
		return "", "", err
	}
	if s.version == "" {
		features, err := s.Kernel.Features()
		if err != nil {
			return "", "", err
		}
		s.version = features + s.Compiler.ID()
	}
	sum := sha256.Sum256([]byte(s.version + "\n" + policy))
	return filepath.Join(s.Dirs.ProfileCache(), cachePrefix(set)+hex.EncodeToString(sum[:16])), policy, nil
}

func cachePrefix(set *Set) string { return set.Snap + "_" + set.Revision.String() + "_" }

// cached returns the compiled set, nil if there is none. What a loss of power
// cut short is none.
func (s *Store) cached(set *Set) (data []byte, path string, err error) {
	path, _, err = s.cachePath(set)
	if err != nil {
		return nil, "", err
	}
	data, err = os.ReadFile(path)
	if err != nil || len(data) <= sha256.Size {
		return nil, path, nil
	}
	body := data[sha256.Size:]
	if sha256.Sum256(body) != [sha256.Size]byte(data[:sha256.Size]) {
		return nil, path, nil
	}
	return body, path, nil
}

// compiled returns the set as the kernel takes it, the file it is cached in
// and how long compiling took, 0 if it was there.
func (s *Store) compiled(ctx context.Context, set *Set) (data []byte, path string, took time.Duration, err error) {
	if data, path, err := s.cached(set); err != nil || data != nil {
		return data, path, 0, err
	}
	path, policy, err := s.cachePath(set)
	if err != nil {
		return nil, "", 0, err
	}
	began := time.Now()
	data, err = s.Compiler.Compile(ctx, policy)
	took = time.Since(began)
	if err != nil {
		return nil, "", took, err
	}
	sum := sha256.Sum256(data)
	if err := os.MkdirAll(s.Dirs.ProfileCache(), 0o755); err != nil {
		return nil, "", took, fmt.Errorf("cannot keep compiled AppArmor profiles: %w", err)
	}
	if err := osutil.WriteFile(path, slices.Concat(sum[:], data), 0o600); err != nil {
		return nil, "", took, fmt.Errorf("cannot keep compiled AppArmor profiles: %w", err)
	}
	return data, path, took, nil
}

// prune drops what is cached of a revision, but for the files to keep.
func (s *Store) prune(set *Set, keep ...string) {
	entries, err := os.ReadDir(s.Dirs.ProfileCache())
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(s.Dirs.ProfileCache(), e.Name())
		if strings.HasPrefix(e.Name(), cachePrefix(set)) && !slices.Contains(keep, path) {
			os.Remove(path) // a cache: what stays costs space only
		}
	}
}
