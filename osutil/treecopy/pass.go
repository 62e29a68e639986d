// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// errVanished and errRaced say that the source moved under the copy: the name
// is gone, or it is another kind of file than a moment ago.
var (
	errVanished = errors.New("it vanished")
	errRaced    = errors.New("it keeps changing while it is copied")
	// errBusy is a regular file that was copied while it was written.
	errBusy = errors.New("it was written to while it was copied")
)

// maxTries is how often a name that changes under the copy is looked at,
// maxCopies how often Differences copies a file that somebody still writes.
const (
	maxTries  = 8
	maxCopies = 2
)

// entry is what was seen of a source file when it was copied.
type entry struct {
	id    fileID
	mode  uint32
	size  int64
	ctime int64 // ns since 1970
	// settled entries may be believed: an equal stat means an unchanged file.
	settled bool
	// copied entries have a counterpart in the copy.
	copied bool
	// target is the counterpart's inode if the file had several names.
	target uint64
	// linked counterparts may have other names in the copy.
	linked bool
	// gen is the pass that last saw the file.
	gen int
	// kids are the entries of a directory.
	kids map[string]*entry
}

func newEntry(st *unix.Stat_t, gen int) *entry {
	return &entry{id: idOf(st), mode: st.Mode, size: st.Size, ctime: st.Ctim.Nano(), copied: true, gen: gen}
}

func (e *entry) kind() uint32 { return e.mode & unix.S_IFMT }

func (e *entry) equals(st *unix.Stat_t, stamps map[fileID]Stamp) bool {
	if !e.settled || e.id != idOf(st) || e.mode != st.Mode || e.size != st.Size {
		return false
	}
	ctime := st.Ctim.Nano()
	if s, restamped := stamps[e.id]; restamped && s.before == e.ctime && s.after == ctime {
		return true
	}
	return e.ctime == ctime
}

// frame is a directory on the way from the root to where the pass is.
type frame struct {
	e     *entry
	st    unix.Stat_t
	names []string
	// dirty is set when the copy of the directory needs its metadata again.
	dirty bool
}

// other is the first name of a file with several, for links to it.
type other struct {
	path string
	e    *entry
}

// pass walks the source once, depth first, and makes the copy equal.
type pass struct {
	c        *Copier
	ctx      context.Context
	first    bool // entries are stamped to be believed by the next pass
	durable  bool // what it writes is on stable storage when it ends
	owed     debt
	gen      int
	src, dst *descent
	frames   []*frame
	links    map[fileID]other
	buf      []byte
	noClone  bool
	stats    Stats
	// unsettled counts bytes of regular files that the next pass will copy
	// again only because they were written lately; settlesAt is when that ends.
	unsettled int64
	settlesAt time.Time
	done      int64
}

func newPass(ctx context.Context, c *Copier, first, durable bool) (*pass, error) {
	p := &pass{c: c, ctx: ctx, first: first, durable: durable, links: make(map[fileID]other), buf: make([]byte, 256<<10)}
	fd, err := openRoot(c.src)
	if err != nil {
		return nil, err
	}
	fresh := c.seen == nil
	if fresh {
		c.trust = trustIn(fd)
		if first && c.trust.datasync {
			// One flush for all leaves each file's fdatasync little to do.
			unix.Syncfs(fd)
		}
	}
	if p.src, err = newDescent(fd); err != nil {
		return nil, err
	}
	if fd, err = c.openTree(); err == nil {
		p.dst, err = newDescent(fd)
	}
	if err != nil {
		p.src.close()
		return nil, err
	}
	c.gen++
	p.gen = c.gen
	if fresh {
		c.seen = &entry{copied: true, kids: make(map[string]*entry)}
	}
	return p, nil
}

// openTree opens the copy that is being made.
func (c *Copier) openTree() (int, error) {
	tmp, err := openRoot(c.Temporary())
	if err != nil {
		return -1, err
	}
	defer unix.Close(tmp)
	return openBeneath(tmp, treeName, unix.O_RDONLY|unix.O_DIRECTORY)
}

func (p *pass) close() {
	p.owed.forgive()
	p.src.close()
	p.dst.close()
}

func (p *pass) run() error {
	if err := p.open(p.c.seen); err != nil {
		return err
	}
	for len(p.frames) > 0 {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		f := p.frames[len(p.frames)-1]
		if len(f.names) == 0 {
			if err := p.leave(f); err != nil {
				return fmt.Errorf("directory %q: %w", p.src.path("."), err)
			}
			continue
		}
		name := f.names[0]
		f.names = f.names[1:]
		if err := p.visit(f, name); err != nil {
			return fmt.Errorf("%q: %w", p.src.path(name), err)
		}
	}
	if p.first {
		p.c.opts.Progress(p.c.total.Bytes, p.c.total.Bytes)
	}
	if err := p.owed.pay(p.c.Temporary()); err != nil {
		return fmt.Errorf("it cannot be made durable: %w", err)
	}
	return nil
}

// owe has a file or directory of the copy made durable before the pass ends.
func (p *pass) owe(fd int) error {
	if !p.durable {
		return nil
	}
	return p.owed.owe(fd)
}

// visit brings one name of the current directory up to date.
func (p *pass) visit(f *frame, name string) error {
	for try := 1; ; try++ {
		err := p.visitOnce(f, name)
		switch {
		case err == errVanished:
			return nil // leave removes what there was
		case err == errBusy && try >= maxCopies:
			// Nobody who was sealed or stopped does that; the caller knows who
			// was neither.
			p.note(name, err.Error())
			return nil
		case err == errBusy:
		case err != errRaced:
			return err
		case try < maxTries:
		case p.first:
			// Whatever it is going to be, Differences will find it.
			f.e.settled = false
			return p.clear(f, name)
		default:
			return err
		}
	}
}

func (p *pass) visitOnce(f *frame, name string) error {
	dir, err := p.src.fd()
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return raced(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return p.enter(f, name)
	}
	old := f.e.kids[name]
	to, linked := p.links[idOf(&st)]
	linked = linked && st.Nlink > 1 && to.e != old
	if old != nil && old.equals(&st, p.c.stamps) && (p.c.trust.times || old.kind() != unix.S_IFREG) &&
		!(linked && to.e.target != old.target) {
		p.keep(old, name, &st)
		return nil
	}
	if linked {
		return p.link(f, name, to)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return p.regular(f, name)
	case unix.S_IFLNK, unix.S_IFIFO:
		return p.special(f, name, &st)
	case unix.S_IFSOCK:
		return p.skip(f, name, &st, "sockets are not copied")
	}
	return p.skip(f, name, &st, "devices are not copied")
}

// raced turns an error that a name or its kind has changed into the pass's.
func raced(err error) error {
	switch err {
	case unix.ENOENT:
		return errVanished
	case unix.ELOOP, unix.ENOTDIR, unix.EISDIR, unix.ENXIO:
		return errRaced
	}
	return err
}

// keep notes that a file was found as it was.
func (p *pass) keep(e *entry, name string, st *unix.Stat_t) {
	e.gen = p.gen
	if !e.copied {
		return
	}
	p.stats.Unchanged++
	p.remember(e, name, st)
}

// remember keeps the name of a file that may have more of them.
func (p *pass) remember(e *entry, name string, st *unix.Stat_t) {
	if st.Nlink > 1 {
		if _, ok := p.links[e.id]; !ok {
			p.links[e.id] = other{p.dst.path(name), e}
		}
	}
}

// setTarget finds out the inode of a copy that may get more names.
func (p *pass) setTarget(e *entry, dir int, name string, st *unix.Stat_t) error {
	if st.Nlink < 2 {
		return nil
	}
	var to unix.Stat_t
	if err := unix.Fstatat(dir, name, &to, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	e.target = to.Ino
	return nil
}

// clear makes sure that the copy of the current directory has nothing by that
// name.
func (p *pass) clear(f *frame, name string) error {
	old := f.e.kids[name]
	if old == nil {
		return nil
	}
	delete(f.e.kids, name)
	if !old.copied {
		return nil
	}
	dir, err := p.dst.fd()
	if err != nil {
		return err
	}
	f.dirty = true
	return removeAt(p.ctx, dir, name)
}

// skip leaves a file out and says so.
func (p *pass) skip(f *frame, name string, st *unix.Stat_t, reason string) error {
	p.note(name, reason)
	if err := p.clear(f, name); err != nil {
		return err
	}
	e := newEntry(st, p.gen)
	e.copied = false
	e.settled = p.settled(e.ctime)
	f.e.kids[name] = e
	return nil
}

// maxNotes bounds what a hostile tree can make us remember.
const maxNotes = 1000

func (p *pass) note(name, reason string) {
	if len(p.c.notes) < maxNotes {
		p.c.notes[Note{p.src.path(name), reason}] = true
	}
}

// enter goes into a directory of the source and its copy.
func (p *pass) enter(f *frame, name string) error {
	p.src.push(name)
	fd, err := p.src.fd()
	if err != nil {
		p.src.drop()
		if err == unix.EXDEV {
			return p.skip(f, name, &unix.Stat_t{}, "what is mounted there is not copied")
		}
		return raced(err)
	}
	e := f.e.kids[name]
	if e == nil || !e.copied || e.kind() != unix.S_IFDIR {
		if err := p.makeDir(f, name, fd); err != nil {
			return err
		}
		e = f.e.kids[name]
	}
	p.dst.push(name)
	return p.open(e)
}

// makeDir makes the copy of a directory, still without its metadata.
func (p *pass) makeDir(f *frame, name string, fd int) error {
	if err := p.clear(f, name); err != nil {
		return err
	}
	dir, err := p.dst.fd()
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return err
	}
	f.dirty = true
	// An entry that equals nothing makes open list and leave dress it.
	f.e.kids[name] = &entry{mode: unix.S_IFDIR, copied: true, kids: make(map[string]*entry)}
	p.stats.Copied++
	return nil
}

// open begins with the directory that both descents have reached. A directory
// whose change time has not moved has the names that it had.
func (p *pass) open(e *entry) error {
	fd, err := p.src.fd()
	if err != nil {
		return err
	}
	f := &frame{e: e}
	if err := unix.Fstat(fd, &f.st); err != nil {
		return err
	}
	if e.equals(&f.st, p.c.stamps) && p.c.trust.times {
		f.names = make([]string, 0, len(e.kids))
		for name := range e.kids {
			f.names = append(f.names, name)
		}
		p.stats.Unchanged++
	} else {
		settled := p.settled(f.st.Ctim.Nano())
		if f.names, err = list(fd); err != nil {
			return err
		}
		e.id, e.mode, e.size, e.ctime = idOf(&f.st), f.st.Mode, f.st.Size, f.st.Ctim.Nano()
		e.settled = settled
		f.dirty = true
	}
	e.gen = p.gen
	p.frames = append(p.frames, f)
	return nil
}

// leave ends a directory: what was not met is removed, then it gets the
// metadata of its source, last of all because its times move with its files.
func (p *pass) leave(f *frame) error {
	for name, kid := range f.e.kids {
		if kid.gen == p.gen {
			continue
		}
		if kid.copied {
			p.stats.Removed++
		}
		if err := p.clear(f, name); err != nil {
			return err
		}
	}
	if f.dirty {
		from, err := p.src.fd()
		if err != nil {
			return err
		}
		to, err := p.dst.fd()
		if err != nil {
			return err
		}
		if err := p.dress(fdAttrs(from), fdAttrs(to), to, &f.st); err != nil {
			return err
		}
		if err := p.owe(to); err != nil {
			return err
		}
	}
	p.frames = p.frames[:len(p.frames)-1]
	return errors.Join(p.src.pop(), p.dst.pop())
}
