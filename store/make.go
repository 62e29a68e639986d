// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"endured/osutil"
	"endured/snap"
)

// revisionInName finds the revision in a file name such as web_7.snap.
var revisionInName = regexp.MustCompile(`^([a-z0-9-]+)_([1-9][0-9]{0,8})\.snap$`)

// found is a .snap file that is to be in the index.
type found struct {
	Entry
	when time.Time
}

// MakeIndex writes the index of a directory, from the .snap files that lie in
// it. What an earlier index says of a file (told by its hash) stays: its
// revision and channels. A new file gets the revision in its name, NAME_7.snap,
// if that is free, else the next one, oldest file first, and is released in the
// channels given. It returns the index, and writes nothing after an error.
func MakeIndex(ctx context.Context, dir string, channels []Channel) (*Index, error) {
	old := &Index{}
	data, err := os.ReadFile(filepath.Join(dir, IndexName))
	if err == nil {
		old, err = ParseIndex(data)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, IndexName), err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.snap"))
	if err != nil {
		return nil, fmt.Errorf("cannot look into %s: %w", dir, err)
	}
	var list []*found
	for _, p := range paths {
		f, err := examine(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("cannot use %s: %w", p, err)
		}
		list = append(list, f)
	}
	number(list, old, channels)
	out := &Index{}
	for _, f := range list {
		out.Snaps = append(out.Snaps, f.Entry)
	}
	slices.SortFunc(out.Snaps, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.Revision-b.Revision)
	})
	return out, out.write(dir)
}

func examine(ctx context.Context, path string) (*found, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	file, err := snap.OpenReader(f, st.Size())
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sum := sha3.New384()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < st.Size(); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := f.ReadAt(buf, at)
		sum.Write(buf[:n])
		at += int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if n == 0 {
			break
		}
	}
	return &found{when: st.ModTime(), Entry: Entry{
		Name: file.Info().Name, Version: file.Info().Version, File: filepath.Base(path), Size: st.Size(),
		SHA3: hex.EncodeToString(sum.Sum(nil)),
	}}, nil
}

// number gives every file a revision and its channels.
func number(list []*found, old *Index, channels []Channel) {
	taken := map[string]map[int]bool{}
	take := func(f *found, rev int) {
		if taken[f.Name] == nil {
			taken[f.Name] = map[int]bool{}
		}
		taken[f.Name][rev] = true
		f.Revision = rev
	}
	for _, f := range list {
		for _, e := range old.of(f.Name) {
			if e.SHA3 == f.SHA3 && !taken[f.Name][e.Revision] && f.Revision == 0 {
				take(f, e.Revision)
				f.Channels = e.Channels
			}
		}
	}
	// a revision is never given to another file, even when its own is gone
	highest := map[string]int{}
	for _, e := range old.Snaps {
		highest[e.Name] = max(highest[e.Name], e.Revision)
	}
	known := func(name string, rev int) bool {
		return taken[name][rev] || slices.ContainsFunc(old.of(name), func(e *Entry) bool { return e.Revision == rev })
	}
	slices.SortStableFunc(list, func(a, b *found) int { return a.when.Compare(b.when) })
	var unnamed []*found
	for _, f := range list {
		if f.Revision != 0 {
			continue
		}
		f.Channels = channels
		m := revisionInName.FindStringSubmatch(f.File)
		if m != nil && m[1] == f.Name {
			if rev, err := strconv.Atoi(m[2]); err == nil && !known(f.Name, rev) {
				take(f, rev)
				highest[f.Name] = max(highest[f.Name], rev)
				continue
			}
		}
		unnamed = append(unnamed, f)
	}
	for _, f := range unnamed {
		highest[f.Name]++
		take(f, highest[f.Name])
	}
}

func (x *Index) write(dir string) error {
	var b bytes.Buffer
	b.WriteString("# The snaps of this store, written by 'snap debug store-index'. To release a\n# revision in a channel, or to withdraw it, change its channels.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(x), e.Close()); err != nil {
		return fmt.Errorf("cannot write the index: %w", err)
	}
	if err := osutil.WriteFileSync(filepath.Join(dir, IndexName), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("cannot write the index: %w", err)
	}
	return nil
}
