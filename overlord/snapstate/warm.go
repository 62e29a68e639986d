// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"endured/snap"
)

// warmLimit bounds how much of a revision's programs is read ahead, in bytes.
const warmLimit = 64 << 20

// warmRevision is warm for a revision that was just mounted.
func (m *Manager) warmRevision(ctx context.Context, s *Setup) {
	info, err := m.Info(s.Snap, s.Rev)
	if err == nil {
		_, err = m.warm(ctx, info)
	}
	if err != nil {
		m.Log.Debug("cannot prepare a start", "snap", s.Snap, "revision", s.Rev.Revision, "err", err)
	}
}

// warm reads the programs that the services of a mounted revision start with,
// so that they are in memory, uncompressed, before anything is stopped: the
// first start of a program from a squashfs otherwise spends most of its time on
// reading it. It returns how many bytes it has read. What cannot be read is
// left for the start to fail on.
func (m *Manager) warm(ctx context.Context, info *snap.Info) (int64, error) {
	root, err := os.OpenRoot(m.Dirs.Mount(info.Name, info.Revision))
	if err != nil {
		return 0, fmt.Errorf("cannot read programs ahead: %w", err)
	}
	defer root.Close()
	left := int64(warmLimit)
	seen := map[string]bool{}
	var errs []error
	for _, a := range info.Services() {
		words := strings.Fields(a.Command)
		if len(words) == 0 {
			continue
		}
		for _, p := range append(append([]string(nil), a.CommandChain...), words[0]) {
			if seen[p] || ctx.Err() != nil {
				continue
			}
			seen[p] = true
			n, err := readAhead(root, p, left)
			left -= n
			errs = append(errs, err)
		}
	}
	return warmLimit - left, errors.Join(errs...)
}

// readAhead reads up to limit bytes of a regular file below root; a link that
// leads out of it is not followed.
func readAhead(root *os.Root, name string, limit int64) (int64, error) {
	// a snap may have anything under that name: nothing may block here
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot read a program ahead: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return 0, err
	}
	var n int64
	for buf := make([]byte, 128<<10); n < limit; {
		got, err := f.Read(buf[:min(limit-n, int64(len(buf)))])
		n += int64(got)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, fmt.Errorf("cannot read a program ahead: %w", err)
		}
	}
	return n, nil
}
