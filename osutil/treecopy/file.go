// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

const (
	// smallFile is up to which a copy through a buffer beats the calls that
	// let the kernel copy.
	smallFile = 1 << 20

	// gapClone is from which size Differences shares blocks: before it does,
	// the kernel writes the source's dirty pages to the disk.
	gapClone = 64 << 20

	// chunk is how much is copied between two looks at the context.
	chunk = 16 << 20
)

// regular copies a regular file.
func (p *pass) regular(f *frame, name string) error {
	dir, err := p.src.fd()
	if err != nil {
		return err
	}
	fd, err := openBeneath(dir, name, reading)
	if err != nil {
		if err == unix.EXDEV {
			return p.skip(f, name, &unix.Stat_t{}, "what is mounted there is not copied")
		}
		return raced(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errRaced
	}
	if first, ok := p.links[idOf(&st)]; ok && st.Nlink > 1 {
		if first.e != f.e.kids[name] {
			return errRaced // it is not the file that visitOnce saw
		}
		delete(p.links, idOf(&st))
	}
	e := p.stamp(fd, &st)
	dstDir, err := p.dst.fd()
	if err != nil {
		return err
	}
	to, err := p.target(f, dstDir, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	var have int64
	if old := f.e.kids[name]; old != nil {
		have = old.size
	}
	if err := p.content(fd, to, &st, have); err != nil {
		return err
	}
	if err := p.dress(fdAttrs(fd), fdAttrs(to), to, &st); err != nil {
		return err
	}
	if err := p.owe(to); err != nil {
		return err
	}
	if err := p.setTarget(e, dstDir, name, &st); err != nil {
		return err
	}
	p.noteRights(name, fd, &st)
	f.e.kids[name] = e
	p.stats.Copied++
	p.remember(e, name, &st)
	return p.unmoved(fd, &st)
}

// unmoved is nil if the file is what it was when the copy began, or if a
// later pass will look at it again.
func (p *pass) unmoved(fd int, before *unix.Stat_t) error {
	if p.first {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Ctim == before.Ctim && st.Size == before.Size {
		return nil
	}
	return errBusy
}

// target opens the file to write to: the one of the last pass, if no other
// name shares it, else a new one. Nobody else can see either.
func (p *pass) target(f *frame, dir int, name string) (int, error) {
	old := f.e.kids[name]
	if old != nil && old.copied && !old.linked && old.kind() == unix.S_IFREG {
		fd, err := openBeneath(dir, name, unix.O_RDWR)
		if err != unix.EACCES { // a file that its owner may not write to
			return fd, err
		}
	}
	if err := p.clear(f, name); err != nil {
		return -1, err
	}
	f.dirty = true
	return unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
}

// content makes to, which is have bytes long, hold what from holds, up to the
// size in st.
func (p *pass) content(from, to int, st *unix.Stat_t, have int64) error {
	if st.Size == 0 && have == 0 {
		return nil
	}
	if (p.first || st.Size >= gapClone) && p.clone(from, to) {
		p.progress(st.Size)
		return unix.Ftruncate(to, st.Size)
	}
	sparse := st.Blocks*512 < st.Size
	if sparse {
		// Where the source has holes the copy must have neither data nor blocks.
		if err := unix.Ftruncate(to, 0); err != nil {
			return err
		}
	}
	var end int64
	whole := !sparse
	for end < st.Size {
		begin, err := unix.Seek(from, end, unix.SEEK_DATA)
		if err == unix.ENXIO {
			// Nothing but a hole up to the end, or it was cut off. What an
			// earlier pass wrote there must go.
			if err := unix.Ftruncate(to, end); err != nil {
				return err
			}
			whole = false
			break
		}
		if err != nil {
			begin, sparse = end, false
		}
		if begin > end && !sparse {
			begin = end // holes that cost blocks: copied as zeros over old data
		}
		end = st.Size
		if sparse {
			if hole, err := unix.Seek(from, begin, unix.SEEK_HOLE); err == nil {
				end = min(hole, st.Size)
			}
		}
		full, err := p.copyRange(from, to, begin, end)
		if err != nil {
			return err
		}
		whole = whole && full
	}
	if whole && have <= st.Size {
		return nil
	}
	return unix.Ftruncate(to, st.Size)
}

// clone shares the blocks of the source where the file system can.
func (p *pass) clone(from, to int) bool {
	if p.noClone {
		return false
	}
	err := unix.IoctlFileClone(to, from)
	// A file that cannot be cloned is no reason to ask no more.
	p.noClone = err != nil && err != unix.EINVAL && err != unix.ETXTBSY
	return err == nil
}

// copyRange copies what lies between two offsets. It is not full if the source
// has become shorter.
func (p *pass) copyRange(from, to int, begin, end int64) (full bool, err error) {
	inKernel := end-begin > smallFile
	for begin < end {
		if err := p.ctx.Err(); err != nil {
			return false, err
		}
		var n int
		var err error
		if inKernel {
			in, out := begin, begin
			n, err = unix.CopyFileRange(from, &in, to, &out, int(min(end-begin, chunk)), 0)
			if n == 0 && err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
				inKernel = false
				continue
			}
		} else {
			n, err = p.copyBuffer(from, to, begin, end)
		}
		if err == io.EOF {
			return false, nil
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, err
		}
		begin += int64(n)
		p.progress(int64(n))
	}
	return true, nil
}

func (p *pass) copyBuffer(from, to int, begin, end int64) (int, error) {
	n, err := unix.Pread(from, p.buf[:min(end-begin, int64(len(p.buf)))], begin)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	for done := 0; done < n; {
		w, err := unix.Pwrite(to, p.buf[done:n], begin+int64(done))
		if err != nil && err != unix.EINTR {
			return 0, err
		}
		done += max(w, 0)
	}
	return n, nil
}

func (p *pass) progress(n int64) {
	p.stats.Bytes += n
	if !p.first {
		return
	}
	p.done += n
	p.c.opts.Progress(min(p.done, p.c.total.Bytes), p.c.total.Bytes)
}

// link gives a file that is in the copy already another name.
func (p *pass) link(f *frame, name string, to other) error {
	if err := p.clear(f, name); err != nil {
		return err
	}
	dir, err := p.dst.fd()
	if err != nil {
		return err
	}
	f.dirty = true
	if err := linkBelow(p.dst.root(), to.path, dir, name); err != nil {
		return err
	}
	to.e.linked = true
	// What counts is what was seen when the content was copied.
	e := *to.e
	e.gen = p.gen
	f.e.kids[name] = &e
	p.stats.Copied++
	return nil
}

// linkBelow is linkat for a path below root that may be longer than the kernel
// takes at once. It is a path in the copy, which nobody else can change.
func linkBelow(root int, path string, dir int, name string) error {
	at := root
	defer func() {
		if at != root {
			unix.Close(at)
		}
	}()
	for len(path) >= unix.PathMax {
		cut := unix.PathMax - 1
		for path[cut] != '/' {
			cut--
		}
		fd, err := unix.Openat(at, path[:cut], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if at != root {
			unix.Close(at)
		}
		at, path = fd, path[cut+1:]
	}
	return unix.Linkat(at, path, dir, name, 0)
}

// special copies a symbolic link, as a link, or makes a FIFO.
func (p *pass) special(f *frame, name string, st *unix.Stat_t) error {
	from, err := p.src.fd()
	if err != nil {
		return err
	}
	to, err := p.dst.fd()
	if err != nil {
		return err
	}
	e := newEntry(st, p.gen)
	e.settled = p.settled(e.ctime)
	var target string
	if e.kind() == unix.S_IFLNK {
		if target, err = readlink(from, name); err == unix.EINVAL {
			return errRaced
		} else if err != nil {
			return raced(err)
		}
	}
	if err := p.clear(f, name); err != nil {
		return err
	}
	f.dirty = true
	if e.kind() == unix.S_IFLNK {
		err = unix.Symlinkat(target, to, name)
	} else {
		err = unix.Mkfifoat(to, name, 0o600)
	}
	if err != nil {
		return err
	}
	f.e.kids[name] = e
	if err := p.dressAt(from, to, name, st); err != nil {
		return err
	}
	if err := p.setTarget(e, to, name, st); err != nil {
		return err
	}
	p.stats.Copied++
	p.remember(e, name, st)
	return nil
}

func readlink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
