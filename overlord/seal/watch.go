// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"golang.org/x/sys/unix"

	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// The time between two tries where nothing tells that one is due.
const (
	firstPause = time.Second
	longPause  = 5 * time.Minute
)

// Resume watches the seals that an earlier daemon left pending.
func (m *Manager) Resume() error {
	var recs []*snapstate.Record
	err := m.State.View(func(tx *state.Tx) (err error) {
		recs, err = snapstate.All(tx)
		return err
	})
	for _, rec := range recs {
		for _, s := range rec.Seals {
			if s.Pending {
				m.Watch(rec.Name, s.Revision)
			}
		}
	}
	return err
}

// Watch tries again to seal a revision, whenever a file that stood in the way
// is closed and now and then, until the seal is whole or nobody needs it.
func (m *Manager) Watch(name string, rev snap.Revision) {
	ctx, stop := context.WithCancel(m.life)
	m.watchMu.Lock()
	defer m.watchMu.Unlock()
	if old := m.watched[watchKey(name, rev)]; old != nil {
		old()
	}
	m.watched[watchKey(name, rev)] = stop
	m.watches.Go(func() {
		defer stop()
		for pause := firstPause; ; pause = min(2*pause, longPause) {
			if m.awaitClose(ctx, name, rev, pause) != nil {
				return
			}
			pending, err := m.Retry(ctx, name, rev)
			if err != nil && ctx.Err() == nil {
				m.Log.Warn("cannot seal", "snap", name, "revision", rev, "err", err)
			}
			if ctx.Err() != nil || !pending && err == nil {
				return
			}
		}
	})
}

func watchKey(name string, rev snap.Revision) string { return name + "/" + rev.String() }

func (m *Manager) unwatch(name string, rev snap.Revision) {
	m.watchMu.Lock()
	defer m.watchMu.Unlock()
	if stop := m.watched[watchKey(name, rev)]; stop != nil {
		stop()
		delete(m.watched, watchKey(name, rev))
	}
}

// awaitClose waits until a file that is still writable is closed, or for a
// while.
func (m *Manager) awaitClose(ctx context.Context, name string, rev snap.Revision, pause time.Duration) error {
	ctx, stop := context.WithTimeout(ctx, pause)
	defer stop()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		f := os.NewFile(uintptr(fd), "inotify")
		defer f.Close()
		if rec, err := m.Snaps.Lookup(name); err == nil && rec.Seal(rev) != nil {
			for _, w := range rec.Seal(rev).Writable {
				// a limit on watches only makes us slower
				_, _ = unix.InotifyAddWatch(fd, filepath.Join(m.Dirs.Data(name, rev), w.Path), unix.IN_CLOSE_WRITE|unix.IN_DONT_FOLLOW)
			}
		}
		defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })()
		if _, err := f.Read(make([]byte, 4096)); err == nil {
			return nil
		}
	}
	<-ctx.Done()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return ctx.Err()
}

// Retry seals once more what is not sealed whole, when no change works on the
// snap, and records the outcome. pending tells whether another try makes sense.
func (m *Manager) Retry(ctx context.Context, name string, rev snap.Revision) (pending bool, err error) {
	for {
		var busy *snapstate.ConflictError
		pending, busy, err = m.retry(ctx, name, rev)
		if busy == nil {
			return pending, err
		}
		if err := m.State.WaitChange(ctx, busy.ChangeID); err != nil {
			return true, err
		}
	}
}

func (m *Manager) retry(ctx context.Context, name string, rev snap.Revision) (pending bool, busy *snapstate.ConflictError, err error) {
	m.mu.Lock() // whoever unseals waits for us
	defer m.mu.Unlock()
	var rec *snapstate.Record
	err = m.State.View(func(tx *state.Tx) (err error) {
		if errors.As(snapstate.CheckConflict(tx, "", name), &busy) {
			return nil
		}
		rec, err = snapstate.Get(tx, name)
		return err
	})
	var gone *snapstate.NotInstalledError
	if errors.As(err, &gone) {
		return false, nil, nil
	}
	if err != nil || busy != nil {
		return true, busy, err
	}
	old := rec.Seal(rev)
	if old == nil || rev == rec.Current {
		return false, nil, nil
	}
	var alive []snapstate.Process
	for _, p := range old.Processes {
		if p.Alive() {
			alive = append(alive, p.Process)
		}
	}
	res, err := m.seal(ctx, Spec{Record: rec, Revision: rev, Successor: rec.Current, Mains: alive}, true)
	if err != nil {
		return true, nil, err
	}
	if res.Seal != nil && res.Seal.Flagged < old.Flagged { // what was closed stays as it is
		res.Seal.Flagged, res.Seal.Files = old.Flagged, old.Files
	}
	return res.Seal != nil && res.Seal.Pending, nil, m.State.Update(func(tx *state.Tx) error {
		rec, err := snapstate.Get(tx, name)
		if err != nil {
			return err
		}
		switch now := rec.Seal(rev); {
		case now == nil || reflect.DeepEqual(now, res.Seal):
			return nil
		case res.Seal == nil: // nobody is left
			rec.DropSeals(func(r snap.Revision) bool { return r == rev })
		default:
			rec.SetSeal(res.Seal)
		}
		return snapstate.Put(tx, rec)
	})
}
