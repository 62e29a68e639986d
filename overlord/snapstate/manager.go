// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sort"
	"strings"
	"sync"

	"endured/dirs"
	"endured/osutil/treecopy"
	"endured/overlord/lifecycle"
	"endured/overlord/state"
	"endured/snap"
	"endured/store"
	"endured/systemd"
)

// Systemd is what this package needs of PID 1.
type Systemd interface {
	Run(ctx context.Context, verb, unit, mode string) error
	Reload(ctx context.Context) error
	Enable(ctx context.Context, units ...string) (bool, error)
	Disable(ctx context.Context, units ...string) (bool, error)
	ResetFailed(ctx context.Context, unit string) error
	Status(ctx context.Context, units ...string) ([]systemd.UnitStatus, error)
	ListUnits(ctx context.Context, patterns ...string) ([]systemd.UnitStatus, error)
}

// Store is what this package needs of a store.
type Store interface {
	Open(ctx context.Context, s *store.Snap) (io.ReadCloser, error)
}

// Profiles keeps what confines the programs of each revision.
type Profiles interface {
	// Unload takes that of one revision away. It fails while a process needs it.
	Unload(ctx context.Context, name string, rev snap.Revision) error
}

// Config is what a Manager is made of.
type Config struct {
	Dirs     dirs.Dirs
	Profiles Profiles
	State    *state.State
	Systemd  Systemd
	Log      *slog.Logger
	// CgroupRoot is where the unified cgroup hierarchy is mounted.
	CgroupRoot string
	// BootID tells this boot from others.
	BootID string
	// Retain is how many revisions are kept, the current one included.
	Retain func() int
	// Store is where download-snap gets files from.
	Store Store
}

// Manager keeps the records of installed snaps and runs the tasks that put
// revisions on the device and take them away.
type Manager struct {
	Config

	mu     sync.Mutex
	copies map[string]*treecopy.Copier // by change id and snap name
	infos  map[infoKey]*snap.Info

	passages passages
}

type infoKey struct {
	name string
	rev  snap.Revision
	sum  string
}

// New makes a Manager and registers its tasks with the runner.
func New(c Config, run *state.Runner) *Manager {
	m := &Manager{
		Config: c, copies: map[string]*treecopy.Copier{}, infos: map[infoKey]*snap.Info{},
		passages: passages{bySnap: map[string]*passage{}},
	}
	run.AddHandler("prepare-snap", m.doPrepare, m.undoPrepare)
	run.AddHandler("download-snap", m.doDownload, m.undoPrepare)
	run.AddHandler("switch-snap-channel", m.doSwitchChannel, m.undoSwitchChannel)
	run.AddHandler("mount-snap", m.doMount, m.undoMount)
	run.AddHandler("copy-snap-data", m.doCopyData, m.undoCopyData)
	run.AddHandler("save-snapshot", m.doSaveSnapshot, m.undoSaveSnapshot)
	run.AddHandler("discard-revisions", m.doDiscardRevisions, nil)
	run.AddHandler("discard-snap", m.doDiscardSnap, nil)
	return m
}

// Setup is what the tasks of one snap in one change work from. It is set when
// the change is made and never changed afterwards.
type Setup struct {
	Snap  string          `json:"snap"`
	Event lifecycle.Event `json:"event"`
	From  snap.Revision   `json:"from"` // current before, 0 for none
	To    snap.Revision   `json:"to"`   // current after, 0 for none
	// Rev is the entry of a revision that the change brings.
	Rev *Revision `json:"rev,omitempty"`
	// File is the spooled .snap of Rev, in the blob directory, or where to
	// download it to.
	File string `json:"file,omitempty"`
	// Offer is what the store described, when it is to be downloaded.
	Offer *store.Snap `json:"offer,omitempty"`
	// Had says that Rev is on the device already.
	Had bool `json:"had,omitempty"`
	// Channel is the one to track from now on, "" for no change.
	Channel string `json:"channel,omitempty"`
	// Only is the single revision to remove.
	Only      snap.Revision `json:"only,omitempty"`
	Terminate bool          `json:"terminate,omitempty"`
}

// Brings tells whether the change puts a new revision on the device.
func (s *Setup) Brings() bool { return s.Rev != nil }

const (
	setupKey  = "setup/"
	snapKey   = "snap"
	recordKey = "snaps/"
)

// SetSetup stores the setup in the change.
func SetSetup(c *state.Change, s *Setup) error { return c.Set(setupKey+s.Snap, s) }

// TaskFor makes a task that works on the setup's snap.
func TaskFor(tx *state.Tx, s *Setup, kind, summary string) (*state.Task, error) {
	t := tx.NewTask(kind, summary)
	return t, t.Set(snapKey, s.Snap)
}

// SetupOf returns the setup that the task works from.
func (m *Manager) SetupOf(t *state.Task) (*Setup, error) {
	name, err := SnapOf(t)
	if err != nil {
		return nil, err
	}
	var s *Setup
	err = m.State.View(func(tx *state.Tx) (err error) {
		s, err = setupIn(tx, t, name)
		return err
	})
	return s, err
}

// SnapOf names the snap that a task works on.
func SnapOf(t *state.Task) (string, error) {
	var name string
	if err := t.Get(snapKey, &name); err != nil {
		return "", fmt.Errorf("cannot tell the snap of task %s: %w", t.ID(), err)
	}
	return name, nil
}

// TaskSetup returns the setup that the task with that id works from.
func TaskSetup(tx *state.Tx, id string) (*Setup, error) {
	t := tx.Task(id)
	if t == nil {
		return nil, fmt.Errorf("cannot find task %s", id)
	}
	name, err := SnapOf(t)
	if err != nil {
		return nil, err
	}
	return setupIn(tx, t, name)
}

func setupIn(tx *state.Tx, t *state.Task, name string) (*Setup, error) {
	c := tx.Change(t.ChangeID())
	if c == nil {
		return nil, fmt.Errorf("cannot find change %s", t.ChangeID())
	}
	var s Setup
	if err := c.Get(setupKey+name, &s); err != nil {
		return nil, fmt.Errorf("cannot read what change %s does to snap %q: %w", t.ChangeID(), name, err)
	}
	return &s, nil
}

// Get returns the record of a snap, or a NotInstalledError.
func Get(tx *state.Tx, name string) (*Record, error) {
	var r Record
	err := tx.Get(recordKey+name, &r)
	if errors.Is(err, state.ErrNoState) {
		return nil, &NotInstalledError{Snap: name}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the record of snap %q: %w", name, err)
	}
	return &r, nil
}

// Put writes the record.
func Put(tx *state.Tx, r *Record) error { return tx.Set(recordKey+r.Name, r) }

// Remove drops the record.
func Remove(tx *state.Tx, name string) error {
	if err := tx.Delete(leavingKey + name); err != nil {
		return err
	}
	return tx.Delete(recordKey + name)
}

// All returns every record, by name.
func All(tx *state.Tx) ([]*Record, error) {
	keys, err := tx.Keys(recordKey)
	if err != nil {
		return nil, err
	}
	sort.Strings(keys)
	out := make([]*Record, 0, len(keys))
	for _, k := range keys {
		r, err := Get(tx, k[len(recordKey):])
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Lookup is Get in a transaction of its own.
func (m *Manager) Lookup(name string) (*Record, error) {
	var r *Record
	err := m.State.View(func(tx *state.Tx) (err error) {
		r, err = Get(tx, name)
		return err
	})
	return r, err
}

// Rev returns the entry of one revision, nil if it is not installed.
func (r *Record) Rev(rev snap.Revision) *Revision {
	for i := range r.Sequence {
		if r.Sequence[i].Revision == rev {
			return &r.Sequence[i]
		}
	}
	return nil
}

// Previous returns the newest revision before the current one, 0 for none.
func (r *Record) Previous() snap.Revision {
	var prev snap.Revision
	for _, e := range r.Sequence {
		if e.Revision == r.Current {
			return prev
		}
		prev = e.Revision
	}
	return 0
}

// Info describes one revision of the record. The result is shared: do not change it.
func (m *Manager) Info(name string, e *Revision) (*snap.Info, error) {
	key := infoKey{name, e.Revision, e.SHA256 + e.SHA3}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.infos[key]; i != nil {
		return i, nil
	}
	i, err := snap.Parse([]byte(e.YAML))
	if err != nil {
		return nil, fmt.Errorf("cannot understand revision %s of snap %q: %w", e.Revision, name, err)
	}
	i.AddHooks(e.Hooks...)
	i.Revision = e.Revision
	m.infos[key] = i
	return i, nil
}

// forget drops cached descriptions of a snap's revisions that keep refuses.
func (m *Manager) forget(name string, keep func(snap.Revision) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.infos {
		if k.name == name && !keep(k.rev) {
			delete(m.infos, k)
		}
	}
}

// Sides returns the descriptions of the revisions that a setup goes from and
// to, and of every other installed one. nil stands for "none".
func (m *Manager) Sides(s *Setup) (from, to *snap.Info, others map[snap.Revision]*snap.Info, err error) {
	others = map[snap.Revision]*snap.Info{}
	rec, err := m.Lookup(s.Snap)
	var missing *NotInstalledError
	if errors.As(err, &missing) {
		rec = &Record{Name: s.Snap}
	} else if err != nil {
		return nil, nil, nil, err
	}
	entries := append([]Revision(nil), rec.Sequence...)
	if s.Rev != nil && rec.Rev(s.Rev.Revision) == nil {
		entries = append(entries, *s.Rev)
	}
	for i := range entries {
		info, err := m.Info(s.Snap, &entries[i])
		if err != nil {
			if rev := entries[i].Revision; rev == s.From || rev == s.To {
				return nil, nil, nil, err
			}
			m.Log.Warn("leaving out a revision", "snap", s.Snap, "err", err)
			continue
		}
		switch entries[i].Revision {
		case s.From:
			from = info
		case s.To:
			to = info
		}
		if s.From == s.To && entries[i].Revision == s.To {
			to = info
		}
		others[entries[i].Revision] = info
	}
	if (from == nil) != s.From.Unset() || (to == nil) != s.To.Unset() {
		return nil, nil, nil, fmt.Errorf("cannot find revisions %s and %s of snap %q in the state", s.From, s.To, s.Snap)
	}
	return from, to, others, nil
}

// CheckConflict returns a ConflictError if an unfinished change works on any of
// the snaps. The change with id except is not looked at.
func CheckConflict(tx *state.Tx, except string, names ...string) error {
	for _, c := range tx.Unready() {
		if c.ID() == except {
			continue
		}
		for _, n := range names {
			if _, works := c.Data()[setupKey+n]; works {
				return &ConflictError{Snap: n, ChangeKind: c.Kind(), ChangeID: c.ID()}
			}
		}
	}
	return nil
}

// Busy lists the snaps that unfinished changes work on.
func Busy(tx *state.Tx) []string {
	var out []string
	for _, c := range tx.Unready() {
		for k := range c.Data() {
			if name, ok := strings.CutPrefix(k, setupKey); ok {
				out = append(out, name)
			}
		}
	}
	return out
}
