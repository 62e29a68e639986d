// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is what TryLock returns when somebody else has the lock.
var ErrLocked = errors.New("locked by another process")

// LockMode is how a lock is held.
type LockMode int

// A lock is held by many that share it or by one exclusively.
const (
	Shared    LockMode = unix.LOCK_SH
	Exclusive LockMode = unix.LOCK_EX
)

// Lock is a lock that is held (flock). It belongs to the open file, so two
// Locks of one process exclude each other too, and it ends with the process.
type Lock struct{ f *os.File }

// Unlock lets go. The file stays.
func (l *Lock) Unlock() error { return l.f.Close() }

// TryLock takes the lock on the file at path, which is made (0644) if it is
// missing, or on a directory, or fails with ErrLocked at once.
func TryLock(path string, mode LockMode) (*Lock, error) {
	for {
		f, err := openLock(path)
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		err = flock(f, int(mode)|unix.LOCK_NB)
		if err != nil {
			f.Close()
			if err == unix.EWOULDBLOCK {
				err = ErrLocked
			}
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		if isAt(f, path) {
			return &Lock{f}, nil
		}
		f.Close()
	}
}

// TakeLock takes the lock on the file at path, which is made (0644) if it is
// missing, or on a directory, and waits for it until ctx is done.
//
// The kernel tells nobody when an flock is free, and a thread that waits for
// one cannot be woken: closing the descriptor under it does not interrupt it,
// and Go's signal handlers restart the call. So the wait is done by a
// goroutine that alone owns the descriptor. When ctx ends first, that goroutine stays until
// the lock comes to it and then lets go at once; the number of such waits is
// the number of given-up calls whose lock is still held elsewhere.
func TakeLock(ctx context.Context, path string, mode LockMode) (*Lock, error) {
	for {
		l, err := TryLock(path, mode)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		l, err = awaitLock(ctx, path, mode)
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		if l != nil {
			return l, nil
		}
	}
}

// awaitLock returns nil, nil when the file was replaced while it waited.
func awaitLock(ctx context.Context, path string, mode LockMode) (*Lock, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	locked := make(chan error)
	go func() {
		err := flock(f, int(mode))
		select {
		case locked <- err:
		case <-ctx.Done():
			f.Close()
		}
	}()
	select {
	case err = <-locked:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil || !isAt(f, path) {
		f.Close()
		return nil, err
	}
	return &Lock{f}, nil
}

// openLock opens read-only: flock asks for no more, and an ordinary user may
// share a lock that root made.
func openLock(path string) (*os.File, error) {
	const flags = os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(path, flags|os.O_CREATE, 0o644)
	if errors.Is(err, unix.EISDIR) {
		return os.OpenFile(path, flags, 0)
	}
	return f, err
}

func flock(f *os.File, how int) error {
	for {
		// Not f.Fd(), whose result is only good while f is reachable.
		var err error
		c, cerr := f.SyscallConn()
		if cerr != nil {
			return cerr
		}
		if cerr := c.Control(func(fd uintptr) { err = unix.Flock(int(fd), how) }); cerr != nil {
			return cerr
		}
		if err != unix.EINTR {
			return err
		}
	}
}

// isAt tells whether f is still what path names: a lock on a file that was
// removed excludes nobody.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}
