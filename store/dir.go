// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"endured/snap"
)

// Dir is a store in a directory: .snap files and an index. Since nothing else
// vouches for them, only root may be able to write any of it.
type Dir struct {
	path func() string

	mu    sync.Mutex
	known *Index
	from  string          // path, size and time of the index that is known
	metas map[string]meta // by hash
}

// meta is what a file says of itself.
type meta struct {
	yaml  []byte
	hooks []string
}

// NewDir makes a store of the directory that path names at the time of a
// question: it may change, and need not exist.
func NewDir(path func() string) *Dir { return &Dir{path: path, metas: map[string]meta{}} }

// index reads the index, if it is not the one that was read last.
func (d *Dir) index() (dir string, x *Index, err error) {
	dir = d.path()
	f, err := d.open(dir, IndexName)
	if errors.Is(err, fs.ErrNotExist) {
		return dir, nil, fmt.Errorf("cannot use the store in %s: there is no %s; 'snap debug store-index %s' makes one of the snaps that lie there, 'snap set system store.path=DIR' names another directory", dir, IndexName, dir)
	}
	if err != nil {
		return dir, nil, fmt.Errorf("cannot use the store in %s: %w", dir, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return dir, nil, fmt.Errorf("cannot use the store in %s: %w", dir, err)
	}
	from := fmt.Sprintf("%s %d %d", f.Name(), st.Size(), st.ModTime().UnixNano())
	d.mu.Lock()
	defer d.mu.Unlock()
	// a write within the clock's grain could go unseen: such an index is not kept
	if d.known != nil && d.from == from {
		return dir, d.known, nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return dir, nil, fmt.Errorf("cannot use the store in %s: %w", dir, err)
	}
	if x, err = ParseIndex(data); err != nil {
		return dir, nil, fmt.Errorf("cannot use the store in %s: cannot read %s: %w", dir, IndexName, err)
	}
	if time.Since(st.ModTime()) > time.Second {
		d.known, d.from = x, from
	}
	return dir, x, nil
}

// open opens a file of the store that nobody but root may have written.
func (d *Dir) open(dir, name string) (*os.File, error) {
	if err := trusted(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	switch {
	case err != nil:
	case !st.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", f.Name())
	default:
		err = safe(f.Name(), st)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// trusted tells whether others than root could put a directory in the place of
// dir, or a file into it.
func trusted(dir string) error {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return fmt.Errorf("%q is not an absolute path without detours", dir)
	}
	for p := dir; ; p = filepath.Dir(p) {
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if !st.IsDir() {
			return fmt.Errorf("%s is not a directory", p)
		}
		if err := safe(p, st); err != nil && (p == dir || st.Mode()&fs.ModeSticky == 0) {
			return err
		}
		if p == "/" {
			return nil
		}
	}
}

// safe tells whether others than root may write.
func safe(name string, st fs.FileInfo) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !ok || sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user than root", name)
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s may be written by others than root (%s)", name, st.Mode().Perm())
	}
	return nil
}

// Resolve implements Store.
func (d *Dir) Resolve(ctx context.Context, actions []Action) ([]Result, error) {
	dir, x, err := d.index()
	if err != nil {
		return nil, err
	}
	out := make([]Result, len(actions))
	for i, a := range actions {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := x.find(a)
		if err == nil && s.Revision != a.Current {
			err = d.describe(dir, s)
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		out[i].Snap = s
	}
	return out, nil
}

// describe reads the metadata out of the file.
func (d *Dir) describe(dir string, s *Snap) error {
	d.mu.Lock()
	have, ok := d.metas[s.SHA3]
	d.mu.Unlock()
	if ok {
		s.YAML, s.Hooks = have.yaml, have.hooks
		return nil
	}
	where := fmt.Sprintf("cannot use revision %s of snap %q in the store", s.Revision, s.Name)
	f, err := d.open(dir, s.Ref)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != s.Size {
		return errors.Join(err, &SumError{Name: s.Name, Revision: s.Revision, What: "the size of " + s.Ref})
	}
	file, err := snap.OpenReader(f, s.Size)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	defer file.Close()
	if name := file.Info().Name; name != s.Name {
		return &SumError{Name: s.Name, Revision: s.Revision, What: fmt.Sprintf("the name in %s, %q,", s.Ref, name)}
	}
	s.YAML, s.Hooks = slices.Clone(file.YAML()), slices.Sorted(maps.Keys(file.Info().Hooks))
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.metas) > 4096 {
		clear(d.metas)
	}
	d.metas[s.SHA3] = meta{s.YAML, s.Hooks}
	return nil
}

// releases lists what each open channel has: by track, then from stable to edge.
func releases(list []*Entry) []*Snap {
	seen := map[Channel]bool{}
	var channels []Channel
	for _, e := range list {
		for _, c := range e.Channels {
			if !seen[c] {
				seen[c] = true
				channels = append(channels, c)
			}
		}
	}
	slices.SortFunc(channels, func(a, b Channel) int {
		if a.track != b.track {
			return strings.Compare(a.track, b.track)
		}
		if a.risk != b.risk {
			return slices.Index(risks, a.Risk()) - slices.Index(risks, b.Risk())
		}
		return strings.Compare(a.branch, b.branch)
	})
	var out []*Snap
	for _, c := range channels {
		out = append(out, released(list, c).snap(c.String()))
	}
	return out
}

// Details implements Store.
func (d *Dir) Details(ctx context.Context, name string) (*Details, error) {
	dir, x, err := d.index()
	if err != nil {
		return nil, err
	}
	return d.details(dir, name, x.of(name))
}

func (d *Dir) details(dir, name string, list []*Entry) (*Details, error) {
	if len(list) == 0 {
		return nil, &NotFoundError{Name: name}
	}
	best := released(list, Channel{})
	if best == nil {
		best = slices.MaxFunc(list, func(a, b *Entry) int { return a.Revision - b.Revision })
	}
	out := &Details{Snap: *best.snap(""), Releases: releases(list)}
	return out, d.describe(dir, &out.Snap)
}

// Search implements Store.
func (d *Dir) Search(ctx context.Context, words string) ([]*Details, error) {
	dir, x, err := d.index()
	if err != nil {
		return nil, err
	}
	by := map[string][]*Entry{}
	var names []string
	for i := range x.Snaps {
		e := &x.Snaps[i]
		if by[e.Name] == nil {
			names = append(names, e.Name)
		}
		by[e.Name] = append(by[e.Name], e)
	}
	slices.Sort(names)
	var out []*Details
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		det, err := d.details(dir, name, by[name])
		if err != nil {
			continue // a file that is damaged hides nothing else
		}
		info, err := snap.Parse(det.YAML)
		if err == nil && mentions(info, words) {
			out = append(out, det)
		}
	}
	return out, nil
}

func mentions(i *snap.Info, words string) bool {
	text := strings.ToLower(i.Name + " " + i.Title + " " + i.Summary)
	for _, w := range strings.Fields(strings.ToLower(words)) {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// Open implements Store.
func (d *Dir) Open(ctx context.Context, s *Snap) (io.ReadCloser, error) {
	f, err := d.open(d.path(), s.Ref)
	if err != nil {
		return nil, fmt.Errorf("cannot open revision %s of snap %q in the store: %w", s.Revision, s.Name, err)
	}
	return f, nil
}
