// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Size is what a tree takes.
type Size struct {
	// Bytes that are allocated: holes do not count, hard links once.
	Bytes int64
	// Files counts inodes, directories included.
	Files int64
}

// Needed tells how much space a copy of the directory src takes where blocks
// cannot be shared. Files that vanish meanwhile, and other mounts, do not
// count.
func Needed(ctx context.Context, src string) (Size, error) {
	s := sizer{linked: make(map[fileID]bool)}
	err := s.walk(ctx, src)
	if err != nil {
		return Size{}, fmt.Errorf("cannot tell the size of %s: %w", src, err)
	}
	return s.size, nil
}

type sizer struct {
	size   Size
	linked map[fileID]bool
	todo   [][]string // names of each directory on the way that are not done
}

func (s *sizer) walk(ctx context.Context, src string) error {
	root, err := openRoot(src)
	if err != nil {
		return err
	}
	d, err := newDescent(root)
	if err != nil {
		return err
	}
	defer d.close()
	if err := s.enter(root); err != nil {
		return err
	}
	for len(s.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		top := len(s.todo) - 1
		if len(s.todo[top]) == 0 {
			s.todo = s.todo[:top]
			if err := d.pop(); err != nil {
				return err
			}
			continue
		}
		name := s.todo[top][0]
		s.todo[top] = s.todo[top][1:]
		dir, err := d.fd()
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			s.add(&st)
			continue
		}
		d.push(name)
		fd, err := d.fd()
		if err != nil {
			d.drop()
			continue
		}
		if err := s.enter(fd); err != nil {
			return err
		}
	}
	return nil
}

func (s *sizer) enter(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	names, err := list(fd)
	if err != nil {
		return err
	}
	s.add(&st)
	s.todo = append(s.todo, names)
	return nil
}

func (s *sizer) add(st *unix.Stat_t) {
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		if s.linked[idOf(st)] {
			return
		}
		s.linked[idOf(st)] = true
	}
	s.size.Bytes += st.Blocks * 512
	s.size.Files++
}

// openRoot opens the directory that a walk starts from. The path to it is the
// caller's; only its last element must not be a link.
func openRoot(path string) (int, error) {
	return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
