// SPDX-License-Identifier: Apache-2.0

package ifacestate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"endured/dirs"
	"endured/interfaces"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// Request is what a task connect or disconnect works from.
type Request struct {
	Refs   []interfaces.ConnRef `json:"refs"`
	Forget bool                 `json:"forget,omitempty"`
}

const requestKey = "request"

// SetRequest stores what the task does.
func SetRequest(t *state.Task, r *Request) error { return t.Set(requestKey, r) }

// before is the undo record: the connections that the task touched as they were;
// nil is none.
type before map[string]*interfaces.ConnState

// change edits the connections and remembers, in the same transaction, what they
// were when the task first ran.
func (m *Manager) change(t *state.Task, edit func(tx *state.Tx, have map[string]interfaces.ConnState) error) (before, error) {
	var was before
	err := m.State.Update(func(tx *state.Tx) error {
		have, err := conns(tx)
		if err != nil {
			return err
		}
		old := maps.Clone(have)
		if err := edit(tx, have); err != nil {
			return err
		}
		task := tx.Task(t.ID())
		if err := task.Undo(&was); err != nil && !errors.Is(err, state.ErrNoState) {
			return err
		}
		if was == nil {
			was = before{}
		}
		for id := range have {
			if _, there := old[id]; !there {
				was.note(id, nil)
			}
		}
		for id, c := range old {
			if now, there := have[id]; !there || now.Undesired != c.Undesired || now.Auto != c.Auto {
				was.note(id, &c)
			}
		}
		if err := task.SetUndo(was); err != nil {
			return err
		}
		return tx.Set(connsKey, have)
	})
	return was, err
}

// note keeps what was there when the task ran for the first time.
func (b before) note(id string, c *interfaces.ConnState) {
	if _, noted := b[id]; !noted {
		b[id] = c
	}
}

// restore puts back what the task changed.
func (m *Manager) restore(was before) error {
	return m.State.Update(func(tx *state.Tx) error {
		have, err := conns(tx)
		if err != nil {
			return err
		}
		for id, c := range was {
			if c == nil {
				delete(have, id)
			} else {
				have[id] = *c
			}
		}
		return tx.Set(connsKey, have)
	})
}

// snapsOf lists the snaps of connections, without the host.
func (b before) snaps() []string {
	var out []string
	for id := range b {
		if ref, err := interfaces.ParseConnRef(id); err == nil {
			out = append(out, ref.Plug.Snap, ref.Slot.Snap)
		}
	}
	return others(out, "")
}

// others sorts names and leaves out the host and one more.
func others(names []string, not string) []string {
	names = slices.DeleteFunc(names, func(n string) bool { return interfaces.IsSystem(n) || n == not })
	slices.Sort(names)
	return slices.Compact(names)
}

func (m *Manager) request(t *state.Task) (*Request, error) {
	var r Request
	if err := t.Get(requestKey, &r); err != nil {
		return nil, fmt.Errorf("cannot read what to connect: %w", err)
	}
	return &r, nil
}

func (m *Manager) doConnect(ctx context.Context, t *state.Task) (state.Commit, error) {
	r, err := m.request(t)
	if err != nil {
		return nil, err
	}
	was, err := m.change(t, func(tx *state.Tx, have map[string]interfaces.ConnState) error {
		repo, err := m.RepositoryIn(tx)
		if err != nil {
			return err
		}
		for _, ref := range r.Refs {
			if _, _, err := repo.Connectable(ref.Plug, ref.Slot); err != nil {
				return err
			}
			have[ref.ID()] = repo.StateOf(ref)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nil, m.follow(ctx, t, was)
}

func (m *Manager) doDisconnect(ctx context.Context, t *state.Task) (state.Commit, error) {
	r, err := m.request(t)
	if err != nil {
		return nil, err
	}
	was, err := m.change(t, func(_ *state.Tx, have map[string]interfaces.ConnState) error {
		for _, ref := range r.Refs {
			c, ok := have[ref.ID()]
			switch {
			case ok && c.Auto && !r.Forget:
				c.Undesired = true
				have[ref.ID()] = c
			case ok:
				delete(have, ref.ID())
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nil, m.follow(ctx, t, was)
}

// follow has the snaps of changed connections get what is connected now. When
// that fails the connections are as before.
func (m *Manager) follow(ctx context.Context, t *state.Task, was before) error {
	err := m.applyAll(ctx, t, was.snaps())
	if err == nil || errors.Is(context.Cause(ctx), state.ErrShutdown) {
		return err
	}
	if rerr := m.restore(was); rerr != nil {
		return errors.Join(err, rerr)
	}
	return errors.Join(err, m.applyAll(context.WithoutCancel(ctx), t, was.snaps()))
}

func (m *Manager) undoConnect(ctx context.Context, t *state.Task) (state.Commit, error) {
	was, err := m.takeBack(t)
	if err != nil {
		return nil, err
	}
	return nil, m.applyAll(ctx, t, was.snaps())
}

// takeBack restores the connections as they were before the task.
func (m *Manager) takeBack(t *state.Task) (before, error) {
	var was before
	if err := t.Undo(&was); errors.Is(err, state.ErrNoState) {
		return nil, nil // it was aborted before it changed anything
	} else if err != nil {
		return nil, fmt.Errorf("cannot read what was connected before: %w", err)
	}
	return was, m.restore(was)
}

// doAutoConnect connects what needs nobody's consent, before the revision's
// profiles are made. Peers are told once the revision is there, by update-peers.
func (m *Manager) doAutoConnect(_ context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.Snaps.SetupOf(t)
	if err != nil {
		return nil, err
	}
	_, to, _, err := m.Snaps.Sides(s)
	if err != nil {
		return nil, err
	}
	publisher, err := m.publisher(s)
	if err != nil {
		return nil, err
	}
	var made []string
	_, err = m.change(t, func(tx *state.Tx, have map[string]interfaces.ConnState) error {
		repo, err := m.RepositoryIn(tx)
		if err != nil {
			return err
		}
		repo = repo.With(interfaces.Installed{Info: to, Publisher: publisher})
		for _, what := range repo.Unknown(to) {
			t.Log("There is no such interface: %s", what)
		}
		add := repo.Auto(s.Snap)
		for _, id := range slices.Sorted(maps.Keys(add)) {
			ref, err := interfaces.ParseConnRef(id)
			if err != nil {
				return err
			}
			if why := m.CheckPlaces(repo, ref); why != nil {
				t.Log("Not connected: %v", why)
				continue
			}
			have[id] = add[id]
			made = append(made, ref.Plug.Describe()+" to "+ref.Slot.Describe())
		}
		return nil
	})
	if len(made) > 0 && err == nil {
		t.Log("Connected %s", strings.Join(made, ", "))
	}
	return nil, err
}

func (m *Manager) publisher(s *snapstate.Setup) (string, error) {
	if s.Rev != nil {
		return s.Rev.Publisher, nil
	}
	rec, err := m.Snaps.Lookup(s.Snap)
	if err != nil {
		return "", err
	}
	if e := rec.Rev(s.To); e != nil {
		return e.Publisher, nil
	}
	return "", nil
}

func (m *Manager) undoAutoConnect(ctx context.Context, t *state.Task) (state.Commit, error) {
	was, err := m.takeBack(t)
	if err != nil {
		return nil, err
	}
	return nil, m.applyAll(ctx, t, was.snaps())
}

// doAutoDisconnect forgets the connections of a snap that goes away.
func (m *Manager) doAutoDisconnect(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.Snaps.SetupOf(t)
	if err != nil {
		return nil, err
	}
	was, err := m.change(t, func(_ *state.Tx, have map[string]interfaces.ConnState) error {
		for id := range have {
			if ref, err := interfaces.ParseConnRef(id); err == nil && (ref.Plug.Snap == s.Snap || ref.Slot.Snap == s.Snap) {
				delete(have, id)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nil, m.applyAll(ctx, t, others(was.snaps(), s.Snap))
}

func (m *Manager) undoAutoDisconnect(ctx context.Context, t *state.Task) (state.Commit, error) {
	if removed, err := m.Snaps.Removed(t); removed || err != nil {
		return nil, err
	}
	was, err := m.takeBack(t)
	if err != nil {
		return nil, err
	}
	return nil, m.applyAll(ctx, t, was.snaps())
}

func (m *Manager) doUpdatePeers(ctx context.Context, t *state.Task) (state.Commit, error) {
	return nil, m.UpdatePeers(ctx, t)
}

// UpdatePeers gives the snaps that are connected with the task's what that offers
// now; and the snap itself, for what its peers did in the meantime. On the way
// back the switch is undone after the task of that name: setup-profiles calls it.
func (m *Manager) UpdatePeers(ctx context.Context, t *state.Task) error {
	s, err := m.Snaps.SetupOf(t)
	if err != nil {
		return err
	}
	names := []string{}
	err = m.State.View(func(tx *state.Tx) error {
		have, err := conns(tx)
		for id, c := range have {
			ref, err := interfaces.ParseConnRef(id)
			if err != nil || c.Undesired || ref.Plug.Snap != s.Snap && ref.Slot.Snap != s.Snap {
				continue
			}
			names = append(names, ref.Plug.Snap, ref.Slot.Snap)
		}
		return err
	})
	if err != nil {
		return err
	}
	names = others(names, "")
	if len(names) == 1 { // connected with the host only
		return nil
	}
	return m.applyAll(ctx, t, names)
}

// NoPlaceError says that a snap has no directory where it wants to see content.
type NoPlaceError struct {
	Plug   interfaces.End
	Target string
}

func (e *NoPlaceError) Error() string {
	return fmt.Sprintf("cannot connect %s: its target %s is not a directory of the snap; let the snap have it, or use a target in $SNAP_COMMON or $SNAP_DATA",
		e.Plug, e.Target)
}

// CheckPlaces refuses a connection whose target would have to be made in the
// read-only image of the snap.
func (m *Manager) CheckPlaces(repo *interfaces.Repository, ref interfaces.ConnRef) error {
	mounts, info, err := repo.MountsOf(ref)
	if err != nil {
		return err
	}
	for _, mnt := range mounts {
		if !inImage(info, mnt.Target) {
			continue
		}
		if fi, err := os.Stat(m.wrap.Dirs.Under(mnt.Target)); err != nil || !fi.IsDir() {
			return &NoPlaceError{ref.Plug, mnt.Target}
		}
	}
	return nil
}

func inImage(info *snap.Info, path string) bool {
	return strings.HasPrefix(path, dirs.Dirs{}.Mount(info.Name, info.Revision)+"/")
}
