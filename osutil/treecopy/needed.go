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
	err := Walk(ctx, src, func(e *Entry) error { s.add(e); return nil })
	if err != nil {
		return Size{}, fmt.Errorf("cannot tell the size of %s: %w", src, err)
	}
	return s.size, nil
}

type sizer struct {
	size   Size
	linked map[fileID]bool
}

func (s *sizer) add(e *Entry) {
	st := &e.Stat
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		if s.linked[statxID(st)] {
			return
		}
		s.linked[statxID(st)] = true
	}
	s.size.Bytes += int64(st.Blocks) * 512
	s.size.Files++
}

// openRoot opens the directory that a walk starts from. The path to it is the
// caller's; only its last element must not be a link.
func openRoot(path string) (int, error) {
	return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
