// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/osutil/treecopy"
	"endured/overlord/snapstate"
)

// Why a file stays writable.
const (
	whyMapped  = "mapped into memory"
	whyOpen    = "open, and the file system has no flag that would stop it"
	whyOutside = "it has a name outside the data"
	whyMoved   = "it was moved or removed just then"
)

const (
	defaultPatience = 100 * time.Millisecond
	// maxListed bounds what a seal lists of the files that it flagged.
	maxListed = 20
)

// file is one that somebody has open for writing.
type file struct {
	name    string // relative to the data, "" if it is not known
	stat    unix.Statx_t
	pids    []int
	mapped  bool
	names   int  // in the data
	settled bool // it has the flag, or is said to stay writable
}

// files gives the immutable flag to what is still open for writing, or to
// everything if nothing else keeps some process off.
func (r *run) files(ctx context.Context) error {
	tree, err := treecopy.OpenTree(r.dir)
	if err != nil {
		return err
	}
	defer tree.Close()
	found, err := r.writers(ctx, tree)
	if err != nil {
		return err
	}
	bare := r.bare()
	if len(found) == 0 && len(bare) == 0 {
		return nil
	}
	opens, writes := tree.CanFlag()
	all := len(bare) > 0 && opens
	if all {
		if err := r.markAll(ctx); err != nil {
			return err
		}
	}
	if err := r.flagOpen(tree, found, writes); err != nil {
		return err
	}
	if all {
		done, err := r.flagAll(ctx, tree, found, writes)
		if err != nil {
			return err
		}
		if done {
			for _, pid := range bare {
				r.keptBy(pid, byFlags)
			}
		}
	}
	for _, f := range found {
		if !f.settled {
			r.stays(f, whyMoved)
		}
	}
	r.seal.Writable = sortedFiles(r.seal.Writable)
	return nil
}

// bare lists the processes that nothing keeps from opening files anew.
func (r *run) bare() []int {
	var pids []int
	for pid, p := range r.procs {
		if len(p.By) == 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// writers finds the files of the data that any process on this host has open
// for writing. Their names are hints of the kernel that are verified, and
// looked for in the whole tree where that fails or there are several.
func (r *run) writers(ctx context.Context, tree *treecopy.Tree) (map[treecopy.FileID]*file, error) {
	open, err := osutil.OpenForWriting(r.place.Dev)
	if err != nil {
		return nil, err
	}
	found := map[treecopy.FileID]*file{}
	lost := r.collect(tree, found, open)
	// a mapping needs no descriptor; that of a stranger counts for files that
	// would be flagged
	pids := r.pids()
	if len(found) > 0 || len(lost) > 0 {
		if pids, err = osutil.PIDs(); err != nil {
			return nil, err
		}
	}
	for id, f := range r.collect(tree, found, osutil.MappedForWriting(pids, r.place.Dev)) {
		lost[id] = f
	}
	search := map[treecopy.FileID]*file{}
	for id, f := range lost {
		search[id] = f
	}
	for id, f := range found {
		if f.stat.Nlink > 1 {
			search[id] = f
		}
	}
	if len(search) == 0 {
		return found, nil
	}
	for _, f := range search {
		f.names = 0
	}
	err = treecopy.Walk(ctx, r.dir, func(e *treecopy.Entry) error {
		if f := search[e.ID()]; f != nil && e.IsRegular() {
			f.names++
			f.name, f.stat = e.Path(), e.Stat
			found[e.ID()] = f
		}
		return nil
	})
	return found, err
}

func (r *run) pids() []int {
	var pids []int
	for pid := range r.procs {
		pids = append(pids, pid)
	}
	return pids
}

// collect sorts what is open into what is in the data and what may be.
func (r *run) collect(tree *treecopy.Tree, found map[treecopy.FileID]*file, open []osutil.OpenFile) (lost map[treecopy.FileID]*file) {
	lost = map[treecopy.FileID]*file{}
	for _, o := range open {
		if o.Stat.Nlink == 0 {
			continue // no name, in nobody's data
		}
		id := treecopy.IDOf(&o.Stat)
		f := found[id]
		if f == nil {
			f = lost[id]
		}
		if f == nil {
			f = &file{stat: o.Stat}
			name, in, known := r.place.Name(o.Mount, o.Path)
			if known && !in {
				continue // elsewhere
			}
			if st, err := tree.Stat(name); known && err == nil && treecopy.IDOf(&st) == id {
				f.name, f.names, f.stat = name, 1, st
				found[id] = f
			} else {
				lost[id] = f
			}
		}
		f.mapped = f.mapped || o.FD < 0
		if !slices.Contains(f.pids, o.PID) {
			f.pids = append(f.pids, o.PID)
		}
	}
	return lost
}

// stuck tells why a file must or can not be flagged, "" if it can.
func (f *file) stuck(writes bool) string {
	switch {
	case f.mapped:
		return whyMapped // a store would kill the process
	case int(f.stat.Nlink) > f.names:
		return whyOutside
	case !writes:
		return whyOpen
	}
	return ""
}

func (r *run) stays(f *file, why string) {
	f.settled = true
	slices.Sort(f.pids)
	r.seal.Writable = append(r.seal.Writable, snapstate.WritableFile{Path: f.name, PIDs: f.pids, Why: why})
}

// flagOpen flags the files that are open.
func (r *run) flagOpen(tree *treecopy.Tree, found map[treecopy.FileID]*file, writes bool) error {
	var flag []*file
	for _, f := range found {
		why := f.stuck(writes)
		switch {
		case f.stat.Attributes&unix.STATX_ATTR_IMMUTABLE != 0 && writes:
			f.settled = true
			r.flagged(f.name)
		case why != "":
			r.stays(f, why)
		default:
			flag = append(flag, f)
		}
	}
	if len(flag) == 0 {
		return nil
	}
	if err := r.markOpen(flag); err != nil {
		return err
	}
	r.freeze(tree, flag)
	return nil
}

// freeze flags open files, but for those that have lost their name. First they
// become append-only: from then on none of them is mapped anew, and what was mapped
// since it was looked for is found.
func (r *run) freeze(tree *treecopy.Tree, files []*file) {
	stamps := map[treecopy.FileID]*treecopy.Stamp{}
	open := map[treecopy.FileID]*file{}
	var pids []int
	for _, f := range files {
		stamp, err := tree.SetFlags(f.name, treecopy.AppendOnly, &f.stat)
		if lostName(err) {
			continue
		}
		if why := refused(err); why != "" {
			r.stays(f, why)
			continue
		}
		r.fault("do:append-only")
		id := treecopy.IDOf(&f.stat)
		open[id], stamps[id] = f, stamp
		for _, pid := range f.pids {
			if !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	for _, o := range osutil.MappedForWriting(pids, r.place.Dev) {
		if f := open[treecopy.IDOf(&o.Stat)]; f != nil {
			f.mapped = true
		}
	}
	for id, f := range open {
		to := treecopy.Frozen
		if f.mapped {
			to = f.before()
		}
		stamp, err := tree.SetFlags(f.name, to, &f.stat)
		if lostName(err) {
			continue
		}
		why := refused(err)
		if why != "" {
			_, _ = tree.SetFlags(f.name, f.before(), &f.stat)
		} else if f.mapped {
			why = whyMapped
		}
		if why != "" {
			r.stays(f, why)
			continue
		}
		f.settled = true
		r.stamp(f.name, stamps[id].Then(stamp))
	}
}

// before are the flags that the file had when it was found.
func (f *file) before() treecopy.Flags {
	if f.stat.Attributes&unix.STATX_ATTR_APPEND != 0 {
		return treecopy.AppendOnly
	}
	return treecopy.NoFlags
}

// lostName tells whether a file was not flagged because its name is gone, or
// another's.
func lostName(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// refused says why a file could not be flagged, "" if it was or is gone.
func refused(err error) string {
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return ""
	case errors.Is(err, unix.EMLINK):
		return whyOutside
	}
	return fmt.Sprintf("it could not be flagged (%v)", err)
}

func (r *run) stamp(name string, s *treecopy.Stamp) {
	r.fault("do:flag")
	r.flagged(name)
	if s != nil {
		r.stamps = append(r.stamps, *s)
	}
}

func (r *run) flagged(name string) {
	r.seal.Flagged++
	if len(r.seal.Files) < maxListed {
		r.seal.Files = append(r.seal.Files, name)
	}
}

var errPatience = errors.New("it takes too long")

// flagAll flags every file and directory of the data but what flagOpen has
// settled, directories before what they hold: from then on nothing comes into them
// or leaves them unseen. It reports whether it came to the end.
func (r *run) flagAll(ctx context.Context, tree *treecopy.Tree, found map[treecopy.FileID]*file, writes bool) (done bool, err error) {
	end := time.Now().Add(r.Patience)
	linked := map[treecopy.FileID]*file{}
	err = treecopy.Walk(ctx, r.dir, func(e *treecopy.Entry) error {
		if !r.again && time.Now().After(end) {
			return errPatience
		}
		open := found[e.ID()]
		if open == nil || !open.settled || open.stuck(writes) == whyOpen {
			r.flagEntry(e, linked)
		}
		if open != nil {
			open.settled = true
		}
		return nil
	})
	if errors.Is(err, errPatience) {
		r.seal.Pending = true
		r.why.add("not all of its files are immutable yet", 0)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.flagLinked(tree, linked)
	return true, nil
}

// flagEntry flags a directory, or a file that has one name; linked gets others.
func (r *run) flagEntry(e *treecopy.Entry, linked map[treecopy.FileID]*file) {
	regular := e.IsRegular()
	if !regular && !e.IsDir() {
		return
	}
	path := e.Path()
	if regular && e.Stat.Nlink > 1 {
		f := linked[e.ID()]
		if f == nil {
			f = &file{}
			linked[e.ID()] = f
		}
		f.name, f.stat = path, e.Stat
		f.names++
		return
	}
	if e.Immutable() {
		r.flagged(path)
		return
	}
	stamp, err := e.SetFlags(treecopy.Frozen)
	if why := refused(err); why != "" {
		r.stays(&file{name: path}, why)
		return
	}
	r.stamp(path, stamp)
}

// flagLinked flags the files all of whose names were met.
func (r *run) flagLinked(tree *treecopy.Tree, linked map[treecopy.FileID]*file) {
	for _, f := range linked {
		if int(f.stat.Nlink) > f.names {
			r.stays(f, whyOutside)
			continue
		}
		stamp, err := tree.SetFlags(f.name, treecopy.Frozen, &f.stat)
		if why := refused(err); why != "" {
			r.stays(f, why)
			continue
		}
		r.stamp(f.name, stamp)
	}
}

func sortedFiles(files []snapstate.WritableFile) []snapstate.WritableFile {
	slices.SortFunc(files, func(a, b snapstate.WritableFile) int { return strings.Compare(a.Path, b.Path) })
	return files
}
