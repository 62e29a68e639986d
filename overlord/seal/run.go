// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"endured/interfaces/mount"
	"endured/osutil"
	"endured/osutil/treecopy"
	"endured/overlord/snapstate"
	"endured/snap"
)

// What keeps a process off.
const (
	byProfile = "profile"
	byMount   = "mount"
	byCover   = "cover"
	byFlags   = "flags"
)

// run is one try to seal.
type run struct {
	*Manager
	Spec
	again bool // nothing waits for it
	dir   string
	place mount.Place
	procs map[int]*snapstate.SealedProcess
	// shares tells that other snaps may have some of the data mounted, and visitors
	// are their processes that have.
	shares   bool
	visitors []snapstate.Process
	seal     *snapstate.Seal
	why      reasons
	stamps   []treecopy.Stamp
	steps    []string
}

func (m *Manager) seal(ctx context.Context, s Spec, again bool) (*Result, error) {
	r := &run{
		Manager: m, Spec: s, again: again, dir: m.Dirs.Data(s.Record.Name, s.Revision),
		procs: map[int]*snapstate.SealedProcess{}, seal: &snapstate.Seal{Revision: s.Revision},
	}
	if err := r.stay(ctx); err != nil {
		return nil, err
	}
	info := r.info()
	r.shares = r.sharesData(info)
	if len(r.procs) == 0 && !r.shares {
		return &Result{}, nil
	}
	flags := r.flags()
	if flags.Classic {
		r.why.add("classic confinement", 0)
		return r.judged(), nil
	}
	var err error
	if r.place, err = r.placeOf(r.Record.Name, r.Revision); errors.Is(err, fs.ErrNotExist) {
		return &Result{}, nil
	} else if err != nil {
		return nil, err
	}
	if r.shares {
		if err := r.invite(ctx); err != nil {
			return nil, err
		}
		if len(r.procs) == 0 { // but somebody may be starting
			if _, err := r.round(nil, nil); err != nil {
				return nil, err
			}
			if err := r.invite(ctx); err != nil {
				return nil, err
			}
		}
	}
	if len(r.procs) == 0 {
		return &Result{}, nil
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"profiles", r.profiles}, {"mounts", r.mounts}, {"files", r.files}} {
		began := time.Now()
		err := step.do(ctx)
		r.steps = append(r.steps, fmt.Sprintf("%s %.1f ms", step.name, float64(time.Since(began).Microseconds())/1000))
		if err != nil {
			return nil, err
		}
		r.fault("do:" + step.name)
	}
	if flags.DevMode {
		r.why.add("devmode", 0)
	}
	return r.judged(), nil
}

func (r *run) flags() snapstate.Flags {
	if e := r.Record.Rev(r.Revision); e != nil {
		return e.Flags
	}
	return snapstate.Flags{}
}

// stay finds out who stays: every process of the snap that runs from the
// revision, or may do so.
func (r *run) stay(ctx context.Context) error {
	procs, err := r.processes(ctx, r.Record, r.Mains)
	if err != nil {
		return err
	}
	for _, p := range procs {
		if p.Revision != r.Revision && !p.Revision.Unset() || r.procs[p.PID] != nil {
			continue
		}
		start, err := osutil.StartTime(p.PID)
		if err != nil {
			continue // gone
		}
		r.procs[p.PID] = &snapstate.SealedProcess{Process: p, Start: start}
	}
	return nil
}

// invite counts who may write to the data as content among those who stay.
func (r *run) invite(ctx context.Context) error {
	writers, readers, err := r.guests(ctx, r.Record, r.Revision, r.place)
	if err != nil {
		return err
	}
	for _, p := range writers {
		if start, err := osutil.StartTime(p.PID); err == nil && r.procs[p.PID] == nil {
			r.procs[p.PID] = &snapstate.SealedProcess{Process: p, Start: start}
		}
	}
	// what only reads is looked at, too: it is read-only before anything is sealed
	r.visitors = append(writers, readers...)
	return nil
}

func (r *run) keptBy(pid int, means string) {
	if p := r.procs[pid]; p != nil && !slices.Contains(p.By, means) {
		p.By = append(p.By, means)
	}
}

// profiles seals by AppArmor. Whether a process is kept off by it is asked of
// its label, not concluded.
func (r *run) profiles(ctx context.Context) error {
	if r.Profiles == nil || !r.Profiles.Enforced() {
		return nil
	}
	if err := r.open(nil); err != nil {
		return err
	}
	if err := r.Profiles.Seal(ctx, r.Record.Name, r.Successor, r.left()); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.seal.Pending = true
		r.why.add(fmt.Sprintf("its profiles could not be sealed (%v)", err), 0)
		return nil
	}
	prefix, suffix := "snap."+r.Record.Name+".", "."+r.Revision.String()+" (enforce)"
	for pid := range r.procs {
		label, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", pid))
		if text := strings.TrimRight(string(label), "\x00\n"); err == nil && strings.HasPrefix(text, prefix) && strings.HasSuffix(text, suffix) {
			r.keptBy(pid, byProfile)
		}
	}
	return nil
}

// open begins the book. What is in it already is from before anything was done.
func (r *run) open(before func() ([]mount.Mark, error)) error {
	b, err := r.readBook(r.Record.Name, r.Revision)
	if err != nil {
		return err
	}
	if b != nil && (b.Noted || before == nil) {
		return nil
	}
	b = &book{Successor: r.Successor}
	if before != nil {
		if b.Before, err = before(); err != nil {
			return err
		}
		b.Noted, b.Guests = true, r.shares
	}
	if err := r.writeBook(r.Record.Name, r.Revision, b); err != nil {
		return err
	}
	r.fault("do:noted")
	return nil
}

// maxRounds bounds the search for namespaces that are made while others are
// sealed. What is made of a sealed one is sealed.
const maxRounds = 10

// mounts makes the data read-only in every namespace of the processes that stay.
func (r *run) mounts(ctx context.Context) error {
	done := map[uint64]bool{}
	for range maxRounds {
		list, err := r.namespaces(ctx, r.Record, slices.Concat(r.Mains, r.visitors))
		if err != nil {
			return err
		}
		fresh, err := r.round(list, done)
		for _, ns := range list {
			ns.Close()
		}
		if err != nil || !fresh {
			return err
		}
		if err := r.stay(ctx); err != nil {
			return err
		}
		if r.shares {
			if err := r.invite(ctx); err != nil {
				return err
			}
		}
	}
	r.seal.Pending = true
	r.why.add("it makes mount namespaces faster than they can be sealed", 0)
	return nil
}

func (r *run) round(list []*mount.Namespace, done map[uint64]bool) (fresh bool, err error) {
	err = r.open(func() ([]mount.Mark, error) {
		var before []mount.Mark
		for _, ns := range list {
			marks, err := ns.ReadOnlyNow(r.place)
			if err != nil {
				return nil, err
			}
			before = append(before, marks...)
		}
		return before, nil
	})
	if err == nil && r.shares {
		err = r.closeShared(r.Record.Name, r.Revision, r.place)
		r.fault("do:shared")
	}
	if err != nil {
		return false, err
	}
	for _, ns := range list {
		if !done[ns.ID] {
			done[ns.ID], fresh = true, true
			r.namespace(ns)
			r.fault("do:mount")
		}
	}
	return fresh, nil
}

func (r *run) namespace(ns *mount.Namespace) {
	changes, err := ns.MakeReadOnly(r.place, r.again)
	if err != nil {
		r.seal.Pending = true
		for _, pid := range ns.PIDs {
			r.why.add(fmt.Sprintf("its mounts could not be reached (%v)", err), pid)
		}
		return
	}
	means := byMount
	for _, c := range changes {
		r.seal.Mounts = append(r.seal.Mounts, snapstate.SealedMount{PID: ns.PIDs[0], Point: c.Point, State: string(c.State)})
		switch {
		case c.State == mount.Covered && means == byMount:
			means = byCover
		case c.State == mount.Open:
			means = ""
			r.seal.Pending = true
			r.Log.Warn("cannot seal a mount", "snap", r.Record.Name, "err", c.Err)
		}
	}
	if len(changes) == 0 && !ns.ReadOnlyAt(r.dir) {
		return // it sees the data as part of something larger, which is not the data's
	}
	for _, pid := range ns.PIDs {
		switch means {
		case byMount:
			r.keptBy(pid, byMount)
		case byCover:
			r.seal.Pending = true
			if by, err := ns.StandsIn(r.place, pid); err == nil && len(by) == 0 {
				r.keptBy(pid, byCover)
			}
		}
	}
}

// Capabilities that undo a seal, from linux/capability.h.
var lifting = []struct {
	bit  uint
	name string
}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_LINUX_IMMUTABLE, "CAP_LINUX_IMMUTABLE"}}

// judged draws the conclusion.
func (r *run) judged() *Result {
	s := r.seal
	kept := 0
	info := r.info()
	for _, pid := range slices.Sorted(maps.Keys(r.procs)) {
		p := r.procs[pid]
		if !p.Alive() {
			continue
		}
		s.Processes = append(s.Processes, *p)
		if r.flags().Classic {
			continue
		}
		if len(p.By) == 0 {
			r.why.add("nothing keeps it off the data", pid)
			continue
		}
		kept++
		if powers, err := osutil.Powers(pid); err == nil && !slices.Contains(p.By, byProfile) {
			for _, c := range lifting {
				if powers&(1<<c.bit) != 0 {
					r.why.add("it could lift the seal ("+c.name+")", pid)
					break
				}
			}
		}
		if r.Unsealable != nil && info != nil && p.Snap == "" {
			for _, clause := range r.Unsealable(info, p.App) {
				r.why.add(clause, pid)
			}
		}
	}
	if len(s.Processes) == 0 {
		return &Result{Stamps: r.stamps, Steps: strings.Join(r.steps, ", ")}
	}
	s.Why = append(writable(s.Writable), r.why.clauses()...)
	s.Pending = s.Pending || len(s.Writable) > 0
	s.State = stateOf(kept, s.Why)
	s.Units = r.units()
	return &Result{Seal: s, Stamps: r.stamps, Steps: strings.Join(r.steps, ", ")}
}

func stateOf(kept int, why []string) snapstate.SealState {
	switch {
	case kept == 0:
		return snapstate.NotSealed
	case len(why) > 0:
		return snapstate.PartlySealed
	}
	return snapstate.Sealed
}

// units draws the conclusion for each unit alone: what another one's process
// can still write to says nothing of it.
func (r *run) units() []snapstate.UnitSeal {
	pids, kept := map[string][]int{}, map[string]int{}
	for _, p := range r.seal.Processes {
		pids[p.Unit] = append(pids[p.Unit], p.PID)
		if len(p.By) > 0 && !r.flags().Classic {
			kept[p.Unit]++
		}
	}
	var out []snapstate.UnitSeal
	for _, unit := range slices.Sorted(maps.Keys(pids)) {
		why := append(writable(writableBy(r.seal.Writable, pids[unit])), r.why.about(pids[unit]).clauses()...)
		out = append(out, snapstate.UnitSeal{Unit: unit, State: stateOf(kept[unit], why), Why: why})
	}
	return out
}

func (r *run) info() *snap.Info { return r.infoOf(r.Record, r.Revision) }

// infoOf returns nil where nothing is known of a revision.
func (m *Manager) infoOf(rec *snapstate.Record, rev snap.Revision) *snap.Info {
	e := rec.Rev(rev)
	if e == nil {
		return nil
	}
	info, err := m.Snaps.Info(rec.Name, e)
	if err != nil {
		return nil
	}
	return info
}
