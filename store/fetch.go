// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// opener is the part of a Store that Fetch needs.
type opener interface {
	Open(ctx context.Context, s *Snap) (io.ReadCloser, error)
}

// Fetch writes the file of a revision to path, which is made anew and readable
// by its owner only, and verifies its size and hash. Its space is reserved
// first. report, if not nil, is told how many bytes are there. After an error
// nothing is left at path.
func Fetch(ctx context.Context, from opener, s *Snap, path string, report func(done, total int64)) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot download: %w", err)
	}
	to, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot download: %w", err)
	}
	err = fetch(ctx, from, s, to, report)
	if cerr := to.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("cannot download: %w", cerr)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func fetch(ctx context.Context, from opener, s *Snap, to *os.File, report func(done, total int64)) error {
	// what has no room is better known before than after
	if err := unix.Fallocate(int(to.Fd()), 0, 0, s.Size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("cannot store revision %s of snap %q (%d bytes): %w", s.Revision, s.Name, s.Size, err)
	}
	in, err := from.Open(ctx, s)
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha3.New384()
	buf := make([]byte, 1<<20)
	done := int64(0)
	for {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("cannot go on with the download: %w", err)
		}
		n, err := in.Read(buf)
		if done += int64(n); done > s.Size {
			return &SumError{Name: s.Name, Revision: s.Revision, What: "the size"}
		}
		sum.Write(buf[:n])
		if _, werr := to.Write(buf[:n]); werr != nil {
			return fmt.Errorf("cannot store revision %s of snap %q: %w", s.Revision, s.Name, werr)
		}
		if report != nil && n > 0 {
			report(done, s.Size)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("cannot read revision %s of snap %q from the store: %w", s.Revision, s.Name, err)
		}
	}
	switch {
	case done != s.Size:
		return &SumError{Name: s.Name, Revision: s.Revision, What: "the size"}
	case hex.EncodeToString(sum.Sum(nil)) != s.SHA3:
		return &SumError{Name: s.Name, Revision: s.Revision, What: "the hash"}
	}
	return nil
}
