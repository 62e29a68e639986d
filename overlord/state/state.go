// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

var (
	// ErrNoState says that there is no value under a key.
	ErrNoState = errors.New("no state entry")
	// ErrNoChange says that there is no such change, or no longer.
	ErrNoChange = errors.New("no such change")
	// ErrClosed says that the state was closed.
	ErrClosed = errors.New("state is closed")
	// ErrLocked says that another process has the state open.
	ErrLocked = errors.New("another snapd has it open")
	// ErrAborted is the cause of a handler's cancelled context after Abort.
	ErrAborted = errors.New("aborted")
	// ErrShutdown is the cause of a handler's cancelled context after Stop.
	ErrShutdown = errors.New("snapd is shutting down")
)

const (
	formatVersion = 1
	// mmapSize is only address space; as long as the file is smaller, writers
	// never wait for readers.
	mmapSize  = 64 << 20
	allocSize = 64 << 10
	// room is kept for the file to grow into, so that on a full disk what was begun
	// can be taken back and recorded.
	room = 1 << 20
	// noCopyOnWrite is FS_NOCOW_FL of linux/fs.h.
	noCopyOnWrite = 0x00800000
)

// Options are for Open. The zero value is fit for use.
type Options struct {
	// Logger gets what no caller can be told; nil drops it.
	Logger *slog.Logger
	// LockTimeout is how long to wait for another process to close the state;
	// 0 is ten seconds.
	LockTimeout time.Duration
	// FaultHook is for crash tests and nil otherwise. A Runner calls it, outside
	// of any transaction, with "KIND:do:acted" when a handler has returned
	// without error and nothing is recorded yet, and with "KIND:do:committed"
	// when it was recorded and nothing that follows has begun; with ":failing"
	// and ":failed" for a handler that returned an error; likewise with "undo".
	// A hook that ends the goroutine leaves the task as in a crash.
	FaultHook func(point string)
}

// State is the durable state. Its methods may be used by any goroutine.
type State struct {
	db   *bbolt.DB
	path string
	log  *slog.Logger
	opts Options

	writing sync.Mutex // held over an Update and what follows from its outcome
	ours    int64      // bytes of the disk that are the file's, guarded by writing

	mu       sync.Mutex // guards the following
	watchers map[int]func(*published)
	nextID   int
	pending  map[string][]string // log lines not yet stored, by task
	progress map[string]Progress // by task
	closed   chan struct{}
	isClosed bool
}

// published is what a committed transaction changed.
type published struct {
	changes map[string]bool // with a new task or a new status in them, or gone
	aborted []string        // tasks that went from Doing to Abort
	warned  bool            // a warning was added or okayed
	moved   string          // instead of all that: the change with new progress or a new log line, in memory
}

// Open opens the state at path, creating it with mode 0600 if there is none.
// The error is ErrLocked when another process has it open.
func Open(path string, o Options) (*State, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = 10 * time.Second
	}
	inPlace(path)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         o.LockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mmapSize,
		NoStatistics:    true,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open state %s: %w", path, err)
	}
	db.AllocSize = allocSize
	s := &State{
		db: db, path: path, log: o.Logger, opts: o,
		watchers: make(map[int]func(*published)),
		pending:  make(map[string][]string),
		progress: make(map[string]Progress),
		closed:   make(chan struct{}),
	}
	if err := s.initialise(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("cannot open state %s: %w", path, err)
	}
	s.takeRoom()
	return s, nil
}

// inPlace makes a new file on btrfs one that is overwritten in place: of a copy
// for each write a full disk has none.
func inPlace(path string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return // it is there, or will be missed below
	}
	defer f.Close()
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Type == unix.BTRFS_SUPER_MAGIC {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, noCopyOnWrite)
	}
}

// initialise makes the buckets of a new file and refuses a newer format.
func (s *State) initialise() error {
	var version int
	indexed := false
	err := s.db.View(func(b *bbolt.Tx) error {
		indexed = b.Bucket(bucketUnready) != nil
		if m := b.Bucket(bucketMeta); m != nil {
			return decode(m.Get(keyFormat), &version)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case version == formatVersion && indexed:
		return nil
	case version > formatVersion:
		return fmt.Errorf("it has format %d and this snapd knows %d", version, formatVersion)
	}
	return s.db.Update(func(b *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketData, bucketChanges, bucketTasks, bucketWarnings, bucketUnready} {
			if _, err := b.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if err := indexUnready(b); err != nil {
			return err
		}
		return b.Bucket(bucketMeta).Put(keyFormat, fmt.Append(nil, formatVersion))
	})
}

// indexUnready fills the bucket of that name from all changes.
func indexUnready(b *bbolt.Tx) error {
	return b.Bucket(bucketChanges).ForEach(func(k, raw []byte) error {
		var rec changeRecord
		if err := decode(raw, &rec); err != nil {
			return err
		}
		if !rec.Ready.IsZero() {
			return nil
		}
		return b.Bucket(bucketUnready).Put(k, []byte{1})
	})
}

// Close closes the file once the transactions under way have ended. Stop the
// runner first.
func (s *State) Close() error {
	s.mu.Lock()
	if s.isClosed {
		s.mu.Unlock()
		return nil
	}
	s.isClosed = true
	close(s.closed)
	s.mu.Unlock()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("cannot close state: %w", err)
	}
	return nil
}

// View reads. What f reads is consistent, and handles from it may still be read
// after it as far as they need no other record.
func (s *State) View(f func(*Tx) error) error {
	b, err := s.begin(false)
	if err != nil {
		return err
	}
	tx := newTx(s, b)
	defer tx.close()
	if err := f(tx); err != nil {
		return err
	}
	return tx.err
}

// Update reads and writes, alone among writers. When it returns nil all is on
// the disk; otherwise, and when f panics, nothing is changed.
func (s *State) Update(f func(*Tx) error) error {
	p, err := s.update(f)
	if err == nil && p != nil {
		s.publish(p)
	}
	return err
}

func (s *State) update(f func(*Tx) error) (*published, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	b, err := s.begin(true)
	if err != nil {
		return nil, err
	}
	tx := newTx(s, b)
	defer tx.close()
	if err := f(tx); err != nil {
		return nil, err
	}
	if err := tx.flush(); err != nil {
		return nil, err
	}
	if !tx.dirty {
		tx.settle(true)
		return nil, nil
	}
	if err := b.Commit(); err != nil {
		return nil, &storageError{err}
	}
	s.takeRoom()
	tx.settle(true)
	return &published{changes: tx.touched, aborted: tx.aborted, warned: tx.warned}, nil
}

// takeRoom sees to it that the file has room to grow. Where that cannot be had
// nothing is lost but this.
func (s *State) takeRoom() {
	var used int64
	_ = s.db.View(func(b *bbolt.Tx) error {
		used = b.Size()
		return nil
	})
	if used+room/2 <= s.ours {
		return
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err == nil {
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, used+room)
		_ = f.Close()
	}
	if err == nil || errors.Is(err, unix.EOPNOTSUPP) {
		s.ours = used + room
		return
	}
	s.log.Debug("no room for the state to grow", "error", err)
}

func (s *State) begin(writable bool) (*bbolt.Tx, error) {
	b, err := s.db.Begin(writable)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, &storageError{err}
	}
	return b, nil
}

// storageError says that the file could not be read or written, as opposed to
// what a transaction's function has to say. Trying again may help.
type storageError struct{ err error }

func (e *storageError) Error() string { return "cannot write state: " + e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

// watch has f called after each transaction that changed something, outside of
// it, until remove is called.
func (s *State) watch(f func(*published)) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.nextID
	s.nextID++
	s.watchers[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, id)
	}
}

func (s *State) publish(p *published) {
	s.mu.Lock()
	fs := make([]func(*published), 0, len(s.watchers))
	for _, f := range s.watchers {
		fs = append(fs, f)
	}
	s.mu.Unlock()
	for _, f := range fs {
		f(p)
	}
}

// AddChangeWatcher has f called with the ID of each change in which a status
// changed, after that is durable, until remove is called. f is called in no
// transaction and must not block; calls may come late and out of order, so it
// should look at the state rather than count.
func (s *State) AddChangeWatcher(f func(changeID string)) (remove func()) {
	return s.watch(func(p *published) {
		for id := range p.changes {
			f(id)
		}
	})
}

// AddActivityWatcher is AddChangeWatcher that also hears of progress and log
// lines of the tasks of a change, which come often.
func (s *State) AddActivityWatcher(f func(changeID string)) (remove func()) {
	return s.watch(func(p *published) {
		for id := range p.changes {
			f(id)
		}
		if p.moved != "" {
			f(p.moved)
		}
	})
}

// AddWarningWatcher has f called after a warning was added or okayed, under the
// same terms as AddChangeWatcher.
func (s *State) AddWarningWatcher(f func()) (remove func()) {
	return s.watch(func(p *published) {
		if p.warned {
			f()
		}
	})
}

// WaitChange returns when the change is ready, however it ended. The error is
// the context's cause, ErrNoChange or ErrClosed.
func (s *State) WaitChange(ctx context.Context, id string) error {
	event := make(chan struct{}, 1)
	remove := s.AddChangeWatcher(func(changed string) {
		if changed == id {
			select {
			case event <- struct{}{}:
			default:
			}
		}
	})
	defer remove()
	for {
		var ready bool
		err := s.View(func(tx *Tx) error {
			c := tx.Change(id)
			if c == nil {
				return ErrNoChange
			}
			ready = c.Ready()
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot wait for change %s: %w", id, err)
		}
		if ready {
			return nil
		}
		select {
		case <-event:
		case <-ctx.Done():
			return fmt.Errorf("cannot wait for change %s: %w", id, context.Cause(ctx))
		case <-s.closed:
			return fmt.Errorf("cannot wait for change %s: %w", id, ErrClosed)
		}
	}
}
