// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"endured/osutil"
	"endured/osutil/treecopy"
	"endured/snap"
)

// Seal says how far the data of a revision that is no longer current is out of
// reach for writing. Package seal makes it; here it is kept.
type Seal struct {
	Revision snap.Revision `json:"revision"`
	State    SealState     `json:"state"`
	// Why it is not whole, a clause each.
	Why []string `json:"why,omitempty"`
	// Processes are those that stayed with other revisions than the new one.
	Processes []SealedProcess `json:"processes,omitempty"`
	// Mounts are those that were made read-only, by process.
	Mounts []SealedMount `json:"mounts,omitempty"`
	// Flagged counts the files and directories that are immutable for it,
	// Files names some of them, relative to the data.
	Flagged int      `json:"flagged,omitempty"`
	Files   []string `json:"files,omitempty"`
	// Writable are the files that can still be written to.
	Writable []WritableFile `json:"writable,omitempty"`
	// Units says the same for each unit that processes stayed in.
	Units []UnitSeal `json:"units,omitempty"`
	// Pending tells that another try may do better.
	Pending bool `json:"pending,omitempty"`
}

// UnitSeal says how far the processes of one unit are kept off the data.
type UnitSeal struct {
	Unit  string    `json:"unit"`
	State SealState `json:"state"`
	Why   []string  `json:"why,omitempty"`
}

// SealState is the whole of it in a word.
type SealState string

// The states.
const (
	Sealed       SealState = "sealed"
	PartlySealed SealState = "partly sealed"
	NotSealed    SealState = "not sealed"
)

// SealedProcess is one that a seal is for.
type SealedProcess struct {
	Process
	Start uint64   `json:"start,omitempty"` // see osutil.StartTime
	By    []string `json:"by,omitempty"`    // "profile", "mount", "cover", "flags"; none: nothing keeps it off
}

// SealedMount is a mount of one process's namespace.
type SealedMount struct {
	PID   int    `json:"pid"` // one of those in the namespace
	Point string `json:"point"`
	State string `json:"state"`
}

// WritableFile is a file that stays writable.
type WritableFile struct {
	Path string `json:"path"` // relative to the data
	PIDs []int  `json:"pids,omitempty"`
	Why  string `json:"why"`
}

// Seal returns the seal of a revision, nil if there is none.
func (r *Record) Seal(rev snap.Revision) *Seal {
	for i := range r.Seals {
		if r.Seals[i].Revision == rev {
			return &r.Seals[i]
		}
	}
	return nil
}

// Of tells how far the processes of a unit are kept off: as the whole is, where
// they were moved to another unit since.
func (s *Seal) Of(unit string) (SealState, []string) {
	for _, u := range s.Units {
		if u.Unit == unit {
			return u.State, u.Why
		}
	}
	return s.State, s.Why
}

// SetSeal keeps a seal in the place of an earlier one of its revision.
func (r *Record) SetSeal(s *Seal) {
	r.DropSeals(func(rev snap.Revision) bool { return rev == s.Revision })
	r.Seals = append(r.Seals, *s)
}

// DropSeals forgets the seals of some revisions.
func (r *Record) DropSeals(of func(snap.Revision) bool) {
	r.Seals = slices.DeleteFunc(slices.Clone(r.Seals), func(s Seal) bool { return of(s.Revision) })
	if len(r.Seals) == 0 {
		r.Seals = nil
	}
}

// Alive tells whether it is still the process that was sealed.
func (p *SealedProcess) Alive() bool {
	start, err := osutil.StartTime(p.PID)
	return err == nil && start == p.Start
}

// Unflag makes the data of a revision mutable again where a seal had flagged
// it. A file that had a flag before keeps it. It costs nothing where no file was
// flagged.
func (m *Manager) Unflag(ctx context.Context, name string, rev snap.Revision) error {
	path := m.Dirs.FlagMark(name, rev)
	mark, err := ReadFlagMark(path)
	if err != nil || mark == nil {
		return err
	}
	data := m.Dirs.Data(name, rev)
	err = treecopy.Walk(ctx, data, func(e *treecopy.Entry) error {
		to := mark.Before(e)
		if to == treecopy.Immutable || !e.Immutable() && e.IsAppendOnly() == (to == treecopy.AppendOnly) {
			return nil
		}
		if _, err := e.SetFlags(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%q: %w", e.Path(), err)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot make %s mutable again: %w", data, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot make %s mutable again: %w", data, err)
	}
	return nil
}
