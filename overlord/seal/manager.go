// SPDX-License-Identifier: Apache-2.0

// Package seal keeps processes that stay from writing to the data of the
// revision that they were started from, once another one is current: what they
// wrote there would be in no later revision. They keep all their other
// permissions, and they can go on reading.
//
// In this order, before the data is copied: AppArmor, where it is enforced,
// denies every new open; the data's mount in each of their mount namespaces
// becomes read-only; a file that somebody has open for writing gets the
// immutable flag, where the file system heeds it for open descriptors. Where
// neither of the first two does for a process, everything gets the flag.
//
// Nothing of it is guessed: what was not reached is in the seal, by process and
// path, and is tried again until it is. All of it can be taken back: what is
// done is found in the world (mounts, flags and the two marks that dirs names),
// so that a crash between any two steps loses none of it.
package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"endured/dirs"
	"endured/interfaces/apparmor"
	"endured/interfaces/mount"
	"endured/osutil/treecopy"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// Profiles is what the seal needs of AppArmor.
type Profiles interface {
	// Seal takes the permission to write the revision's data out of its
	// profiles, and lets processes of the apps that follow execute programs of
	// the successor under its own, also of those that followed before.
	Seal(ctx context.Context, snapName string, successor snap.Revision, left apparmor.Left) error
	// Redirect has processes of older revisions that were told of another one, and
	// those that are told now, follow the successor instead.
	Redirect(ctx context.Context, snapName string, successor snap.Revision, told ...apparmor.Left) error
	// PrepareSeal does what of both takes time and changes nothing.
	PrepareSeal(ctx context.Context, snapName string, successor snap.Revision, left ...apparmor.Left) (apparmor.Cost, error)
	// Unseal puts them back. It is no error if they are as they were.
	Unseal(ctx context.Context, snapName string, rev snap.Revision) error
	// Enforced tells whether the kernel does what profiles say.
	Enforced() bool
}

// Config is what a Manager is made of.
type Config struct {
	Dirs  dirs.Dirs
	State *state.State
	Snaps *snapstate.Manager
	Log   *slog.Logger
	// Profiles is nil where there are none.
	Profiles Profiles
	// Unsealable says why what an app was given keeps a seal from being whole,
	// a clause each; nil if nothing of the kind is given.
	Unsealable func(info *snap.Info, app string) []string
	// Shared lists the directories of a revision's data, relative to it, that other
	// snaps may mount to write there, and those to read only; nil if there are none.
	// Other snaps are looked at only where they may write.
	Shared func(info *snap.Info) (write, read []string)
	// Patience bounds the flagging of everything while services wait for the copy;
	// what is open comes first, and what is left is flagged later. 0 is 100 ms.
	Patience time.Duration
	// Fault is for crash tests and nil otherwise. It is called after each step,
	// with "seal:do:" and noted, shared (what others are shown from now on), profiles, mount (in one namespace), mounts, marked
	// (no file is flagged yet), append-only (the first flag of an open file), flag,
	// files; and with "seal:undo:" and files, mounts, profiles, forgotten.
	Fault func(point string)
}

func (m *Manager) fault(point string) {
	if m.Fault != nil {
		m.Fault("seal:" + point)
	}
}

// Manager seals and unseals, and keeps trying where a seal is not whole.
type Manager struct {
	Config

	mu      sync.Mutex // one at a time
	watchMu sync.Mutex
	watched map[string]context.CancelFunc // by snap and revision

	life    context.Context
	end     context.CancelFunc
	watches sync.WaitGroup
}

// New makes a Manager.
func New(c Config) *Manager {
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	m := &Manager{Config: c, watched: map[string]context.CancelFunc{}}
	m.life, m.end = context.WithCancel(context.Background())
	return m
}

// Stop ends the watches; Resume of the next daemon takes them up again.
func (m *Manager) Stop() {
	m.end()
	m.watches.Wait()
}

// Spec says what to seal.
type Spec struct {
	// Record of the snap, in which the revision is current, or was.
	Record    *snapstate.Record
	Revision  snap.Revision // whose data is sealed; 0 is none
	Successor snap.Revision // that is current afterwards
	// Told are the apps, by revision, that are told of the successor and may put
	// themselves into it. Those of an earlier call need not be named again.
	Told []apparmor.Left
	// Mains are known to stay; they are found anyway where cgroups tell.
	Mains []snapstate.Process
}

// Result is what Seal did.
type Result struct {
	// Seal is nil if no process stays.
	Seal *snapstate.Seal
	// Stamps tell a copy what only seems to have changed.
	Stamps []treecopy.Stamp
	// Steps and their time: "profiles 1.2 ms, mounts 0.3 ms, files 2.0 ms".
	Steps string
}

func (s *Spec) left() apparmor.Left {
	for _, l := range s.Told {
		if l.Revision == s.Revision {
			return l
		}
	}
	return apparmor.Left{Revision: s.Revision}
}

// Prepare has everything at hand that Seal and Redirect will need. Where that
// fails, they say so.
func (m *Manager) Prepare(ctx context.Context, s Spec) {
	if m.Profiles == nil || !m.Profiles.Enforced() {
		return
	}
	left := s.Told
	if !s.Revision.Unset() {
		left = append(s.older(), s.left())
	}
	if _, err := m.Profiles.PrepareSeal(ctx, s.Record.Name, s.Successor, left...); err != nil {
		m.Log.Warn("cannot prepare a seal", "snap", s.Record.Name, "revision", s.Revision, "err", err)
	}
}

// older is Told without the revision that is sealed.
func (s *Spec) older() []apparmor.Left {
	return slices.DeleteFunc(slices.Clone(s.Told), func(l apparmor.Left) bool { return l.Revision == s.Revision })
}

// Redirect has those that stay at older revisions than the one that is sealed, and
// were told of another successor or are told now, follow this one. Nothing else of
// their seal changes.
func (m *Manager) Redirect(ctx context.Context, s Spec) error {
	if m.Profiles == nil || !m.Profiles.Enforced() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Profiles.Redirect(ctx, s.Record.Name, s.Successor, s.older()...)
}

// Seal keeps the processes that stay from writing to the data of a revision. It
// may be called again for one that is sealed. What cannot be sealed is no error
// but in the seal; an error means that the seal was not tried to its end, and
// Unseal takes back what was done.
func (m *Manager) Seal(ctx context.Context, s Spec) (*Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seal(ctx, s, false)
}

// Unseal gives every process of the snap its access to the data of a revision
// back. It costs next to nothing where nothing was sealed.
func (m *Manager) Unseal(ctx context.Context, rec *snapstate.Record, rev snap.Revision) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unwatch(rec.Name, rev)
	errs := []error{m.Snaps.Unflag(ctx, rec.Name, rev)}
	m.fault("undo:files")
	errs = append(errs, m.unsealMounts(ctx, rec, rev))
	m.fault("undo:mounts")
	if m.Profiles != nil && m.Profiles.Enforced() {
		errs = append(errs, m.Profiles.Unseal(ctx, rec.Name, rev))
		m.fault("undo:profiles")
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot unseal the data of revision %s of snap %q: %w", rev, rec.Name, err)
	}
	if err := m.dropBook(rec.Name, rev); err != nil {
		return err
	}
	m.fault("undo:forgotten")
	return nil
}

// Forget drops what is left of a seal of an earlier revision of that number.
func (m *Manager) Forget(name string, rev snap.Revision) error { return m.dropBook(name, rev) }

func (m *Manager) unsealMounts(ctx context.Context, rec *snapstate.Record, rev snap.Revision) error {
	b, err := m.readBook(rec.Name, rev)
	if err != nil || b == nil {
		return err
	}
	place, err := m.placeOf(rec.Name, rev)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := m.openShared(rec.Name, rev, place); err != nil {
		return err
	}
	procs, err := m.processes(ctx, rec, nil)
	if err != nil {
		return err
	}
	err = makeWritable(procs, place, b.Before)
	if b.Guests {
		writers, readers, gerr := m.guests(ctx, rec, rev, place)
		marks := append(m.readMarks(rec, rev, place), b.Before...)
		err = errors.Join(err, gerr, makeWritable(append(writers, readers...), place, marks))
	}
	return err
}

// makeWritable takes the seal of mounts back in the namespaces of these processes.
func makeWritable(procs []snapstate.Process, place mount.Place, before []mount.Mark) error {
	list, err := mount.Namespaces(pidsOf(procs))
	for _, ns := range list {
		err = errors.Join(err, ns.MakeWritable(place, before))
		ns.Close()
	}
	return err
}

// namespaces opens those of the snap's processes and of the ones given.
func (m *Manager) namespaces(ctx context.Context, rec *snapstate.Record, also []snapstate.Process) ([]*mount.Namespace, error) {
	procs, err := m.processes(ctx, rec, also)
	if err != nil {
		return nil, err
	}
	return mount.Namespaces(pidsOf(procs))
}

func pidsOf(procs []snapstate.Process) []int {
	pids := make([]int, len(procs))
	for i, p := range procs {
		pids[i] = p.PID
	}
	return pids
}

func (m *Manager) processes(ctx context.Context, rec *snapstate.Record, also []snapstate.Process) ([]snapstate.Process, error) {
	procs, err := m.Snaps.Processes(ctx, rec)
	if err != nil {
		return nil, err
	}
	// what is known is better than what a process says of itself
	for _, p := range also {
		procs = slices.DeleteFunc(procs, func(o snapstate.Process) bool { return o.PID == p.PID })
	}
	return append(procs, also...), nil
}
