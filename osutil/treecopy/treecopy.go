// SPDX-License-Identifier: Apache-2.0

// Package treecopy copies a snap's data directory for a new revision, in two
// passes: First while the old revision runs, and Differences in the moment
// when it is stopped or sealed, which costs little more than one stat for each
// file that has not changed.
//
// The source is written by programs that are not trusted. Every file is
// reached from its directory's descriptor (openat2: beneath it, through no
// symbolic link, into no other mount), so a program that swaps directories for
// links while they are copied changes what is copied of its own data and
// nothing else. The copy is made inside a directory that only root can enter.
//
// An ordinary user may copy what it can read: the copy is the user's own, and
// owners, groups and attributes that it may not set are left out of it.
//
// Owner, mode, times, extended attributes, ACLs, hard links, holes, symbolic
// links and FIFOs are kept. Set-user-ID, set-group-ID (of files) and file
// capabilities are dropped, sockets and devices are not copied, nor what is
// mounted below the source, nor inode flags: see Copier.Notes.
package treecopy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"endured/osutil"
)

const (
	// treeName is the copy inside the temporary directory, which keeps others
	// out while the copy already has the owner and mode of its source.
	treeName = "data"

	// reserveName is a file beside it that keeps room for Differences, which
	// runs when it is too late to find the disk full; reserved is its size.
	reserveName = "reserve"
	reserved    = 4 << 20

	// settleAge is how old a change time must be, at the first pass, before
	// an equal one later proves that nothing was written. The clock that stamps
	// files ticks every 1 to 10 ms, so a write in the same tick leaves no
	// trace; and a direct write is stamped when it begins, not when it reaches
	// the disk.
	settleAge = 2 * time.Second

	// tolerated is how many bytes of unsettled files Differences may find
	// before First takes another pass for them.
	tolerated = 4 << 20

	// longPass is a pass during which so much may have changed that another
	// one is worth it; maxPasses bounds a source that never calms down.
	longPass  = time.Second
	maxPasses = 3
)

// Options are what a Copier may be told; the zero value is fine.
type Options struct {
	Logger *slog.Logger
	// Progress is called during First, from its goroutine, with bytes.
	Progress func(done, total int64)
}

// Stats is what a pass did.
type Stats struct {
	// Copied counts files, links, FIFOs and new directories that were written;
	// Unchanged those that were found as they were; Removed those that went.
	Copied, Unchanged, Removed int
	// Bytes of file content that were written.
	Bytes int64
}

// Note is something that was left out of the copy on purpose.
type Note struct {
	// Path is relative to the source.
	Path, Reason string
}

// NoSpaceError says that the copy does not fit. It is unix.ENOSPC to errors.Is.
type NoSpaceError struct {
	Source string
	// Needed and Free are in bytes.
	Needed, Free int64
	// NeededFiles and FreeFiles are set instead when inodes ran out.
	NeededFiles, FreeFiles int64
}

func (e *NoSpaceError) Error() string {
	if e.NeededFiles > 0 {
		return fmt.Sprintf("cannot copy data of %s: no space left on device (needs %d files, %d free)", e.Source, e.NeededFiles, e.FreeFiles)
	}
	return fmt.Sprintf("cannot copy data of %s: no space left on device (needs %d bytes, %d free)", e.Source, e.Needed, e.Free)
}

// Unwrap returns unix.ENOSPC.
func (e *NoSpaceError) Unwrap() error { return unix.ENOSPC }

// Copier makes one copy. It must not be used by two goroutines at a time.
type Copier struct {
	src, dst string
	opts     Options
	settle   time.Duration
	// humble copiers are not root's: they cannot keep everything.
	humble bool

	// seen is what First saw and copied, nil when it did not run to its end in
	// this process.
	seen  *entry
	gen   int
	trust trust
	total Size
	notes map[Note]bool
	// stamps are change times that mean nothing.
	stamps map[fileID]Stamp
}

// New prepares to copy the directory src to dst, which must not exist or be an
// empty directory when the copy is completed. Both must be clean paths; the
// parent of dst must exist and only root, or the user that this process runs
// as, may be able to write to it.
func New(src, dst string, o Options) *Copier {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(done, total int64) {}
	}
	return &Copier{src: src, dst: dst, opts: o, settle: settleAge, humble: unix.Geteuid() != 0, notes: make(map[Note]bool)}
}

// Temporary is the directory that holds the copy until it is complete:
// ".BASE.copying" beside dst. One that a crash left is removed by First and by
// Abandon.
func (c *Copier) Temporary() string {
	return filepath.Join(filepath.Dir(c.dst), "."+filepath.Base(c.dst)+".copying")
}

// Notes lists, by path, what is not in the copy, or in it with less power.
func (c *Copier) Notes() []Note {
	notes := make([]Note, 0, len(c.notes))
	for n := range c.notes {
		notes = append(notes, n)
	}
	slices.SortFunc(notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason))
	})
	return notes
}

// First copies everything, while the source may be in use, and ends with the
// copy on stable storage. What changes meanwhile is found by Differences; if
// much of it was written just before, or the pass took long, First takes up to
// two more passes so that Differences has little to do. A temporary of an
// earlier run is removed first.
//
// A copy that does not fit is a *NoSpaceError, after which nothing is left;
// after any other error Abandon removes what there is.
func (c *Copier) First(ctx context.Context) error {
	err := c.first(ctx)
	var full *NoSpaceError
	if err == nil {
		err = c.reserve()
	}
	if errors.As(err, &full) {
		return errors.Join(err, c.Abandon())
	}
	if err != nil {
		return err
	}
	return c.Sync(ctx)
}

// reserve takes room for what Differences will write.
func (c *Copier) reserve() error {
	fd, err := unix.Open(filepath.Join(c.Temporary(), reserveName), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return c.wrap(err)
	}
	defer unix.Close(fd)
	// Where a file system cannot reserve, there is nothing to give back later.
	if err := unix.Fallocate(fd, 0, 0, reserved); err != nil && err != unix.EOPNOTSUPP {
		return c.wrap(err)
	}
	return nil
}

// useReserve gives the room that reserve took to the pass that follows.
func (c *Copier) useReserve() error {
	err := unix.Unlink(filepath.Join(c.Temporary(), reserveName))
	if err != nil && err != unix.ENOENT {
		return c.wrap(err)
	}
	return nil
}

// first is First without the sync.
func (c *Copier) first(ctx context.Context) error {
	if err := c.prepare(ctx, reserved); err != nil {
		return err
	}
	for n := 1; ; n++ {
		begin := time.Now()
		p, err := c.pass(ctx, true, false)
		if err != nil {
			return err
		}
		took := time.Since(begin)
		c.opts.Logger.Debug("copied data", "source", c.src, "pass", n, "took", took,
			"copied", p.stats.Copied, "bytes", p.stats.Bytes, "unsettled", p.unsettled)
		if n == maxPasses || !c.trust.times || (took < longPass && (p.unsettled < tolerated || n > 1)) {
			return nil
		}
		if p.unsettled >= tolerated {
			if err := wait(ctx, time.Until(p.settlesAt)); err != nil {
				return c.wrap(err)
			}
		}
	}
}

// prepare leaves an empty temporary on a file system with enough room, and
// spare bytes more.
func (c *Copier) prepare(ctx context.Context, spare int64) error {
	if err := c.Abandon(); err != nil {
		return err
	}
	c.notes = make(map[Note]bool)
	size, err := Needed(ctx, c.src)
	if err != nil {
		return err
	}
	c.total = size
	if err := c.makeTemporary(); err != nil {
		return c.wrap(err)
	}
	if c.clones() {
		return nil // a clone takes next to nothing
	}
	space, err := osutil.FreeSpace(filepath.Dir(c.dst))
	if err != nil {
		return err
	}
	switch {
	case size.Bytes+spare > space.Free:
		return &NoSpaceError{Source: c.src, Needed: size.Bytes + spare, Free: space.Free}
	case space.Inodes >= 0 && size.Files > space.Inodes:
		return &NoSpaceError{Source: c.src, NeededFiles: size.Files, FreeFiles: space.Inodes}
	}
	return nil
}

// Again is a shorter First for a source that is still in use: it copies what
// has changed since, so that Differences has even less to do.
func (c *Copier) Again(ctx context.Context) (Stats, error) {
	if c.seen == nil {
		return Stats{}, c.First(ctx)
	}
	p, err := c.pass(ctx, true, true)
	if err != nil {
		return Stats{}, err
	}
	return p.stats, nil
}

// Differences brings the copy up to date: what changed since First is copied
// again, what vanished is removed. What it wrote is on stable storage when it
// returns: with what First made durable that is the whole copy. If First did
// not run to its end in this process, everything is copied: call it again
// before the source is stopped. It may be called repeatedly.
func (c *Copier) Differences(ctx context.Context) (Stats, error) {
	if c.seen == nil {
		if err := c.prepare(ctx, 0); err != nil {
			return Stats{}, err
		}
	}
	if err := c.useReserve(); err != nil {
		return Stats{}, err
	}
	p, err := c.pass(ctx, false, true)
	if err != nil {
		return Stats{}, err
	}
	return p.stats, nil
}

// pass runs one pass; after a failure the copy counts as unknown.
func (c *Copier) pass(ctx context.Context, first, durable bool) (*pass, error) {
	p, err := newPass(ctx, c, first, durable)
	if err != nil {
		c.seen = nil
		return nil, c.wrap(err)
	}
	defer p.close()
	if err := p.run(); err != nil {
		c.seen = nil
		return nil, c.wrap(err)
	}
	return p, nil
}

// wrap gives an error the form that callers see.
func (c *Copier) wrap(err error) error {
	var full *NoSpaceError
	if errors.As(err, &full) {
		return err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		// Best effort: what is free may have changed since.
		space, _ := osutil.FreeSpace(filepath.Dir(c.dst))
		if space.Inodes == 0 {
			return &NoSpaceError{Source: c.src, NeededFiles: max(c.total.Files, 1)}
		}
		return &NoSpaceError{Source: c.src, Needed: c.total.Bytes, Free: space.Free}
	}
	return fmt.Errorf("cannot copy data of %s: %w", c.src, err)
}

// Restamped tells of files whose change time was moved by a flag alone, so that
// Differences takes those for unchanged that were so before.
func (c *Copier) Restamped(stamps []Stamp) {
	c.stamps = make(map[fileID]Stamp, len(stamps))
	for _, s := range stamps {
		c.stamps[s.id] = s
	}
}

// Complete renames the copy to its place, in one step: what is found there
// after a loss of power is complete, and holds all that was made durable in it
// since. If something other than an empty directory is there, the error wraps
// fs.ErrExist; if there is no copy, fs.ErrNotExist.
func (c *Copier) Complete(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cannot complete the copy %s: %w", c.dst, err)
	}
	tmp := c.Temporary()
	fd, err := openRoot(tmp)
	if err == nil {
		err = unix.Renameat(fd, treeName, unix.AT_FDCWD, c.dst)
		if err == nil && !ordered(fd) {
			err = errors.Join(unix.Fsync(fd), osutil.SyncDirEntry(c.dst))
		}
		unix.Close(fd)
	}
	if err == unix.ENOTEMPTY || err == unix.ENOTDIR {
		err = fs.ErrExist
	}
	if err != nil {
		return fmt.Errorf("cannot complete the copy %s: %w", c.dst, err)
	}
	c.seen = nil
	if err := unix.Rmdir(tmp); err != nil {
		c.opts.Logger.Warn("cannot remove an empty directory", "path", tmp, "error", err)
	}
	return nil
}

// Abandon removes the temporary and what a crash left of one. It is no error
// if there is none.
func (c *Copier) Abandon() error {
	c.seen = nil
	// Not to be given up half-way by whoever's context has just ended.
	if err := Remove(context.Background(), c.Temporary()); err != nil {
		return fmt.Errorf("cannot abandon the copy of %s: %w", c.src, err)
	}
	return nil
}

// Sync puts everything on the target's file system on stable storage. It can
// take seconds: call it before or after the moment that counts, not in it.
func (c *Copier) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cannot sync the copy %s: %w", c.dst, err)
	}
	return osutil.SyncFilesystem(filepath.Dir(c.dst))
}

func (c *Copier) makeTemporary() error {
	tmp := c.Temporary()
	if err := unix.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	return unix.Mkdir(filepath.Join(tmp, treeName), 0o700)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
