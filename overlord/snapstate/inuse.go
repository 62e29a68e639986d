// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"endured/osutil"
	"endured/snap"
)

// Use says who uses a revision.
type Use struct {
	// PIDs are processes of the snap that were started from the revision or hold
	// it. They pin it.
	PIDs []int
	// Strangers hold a file of it or stand in it, and do not belong to the snap:
	// an operator's shell. They are named and do not pin.
	Strangers []osutil.Holder
}

// Pinned tells whether the revision must stay.
func (u *Use) Pinned() bool { return len(u.PIDs) > 0 }

// InUse finds out who uses a revision: processes in units and scopes that were
// started from it, processes that hold a file of its mount, and mount
// namespaces that an unmount here would not reach.
func (m *Manager) InUse(ctx context.Context, rec *Record, rev snap.Revision) (*Use, error) {
	u := &Use{}
	seen := map[int]bool{}
	pin := func(pids ...int) {
		for _, p := range pids {
			if p != 0 && !seen[p] {
				seen[p] = true
				u.PIDs = append(u.PIDs, p)
			}
		}
	}
	infos := make([]*snap.Info, 0, len(rec.Sequence))
	for i := range rec.Sequence {
		// one that cannot be understood any more is found through its mount
		if info, err := m.Info(rec.Name, &rec.Sequence[i]); err == nil {
			infos = append(infos, info)
		}
	}
	obs, err := m.Observe(ctx, rec, infos...)
	if err != nil {
		return nil, err
	}
	for _, s := range obs.Services {
		if s.Running && s.Revision == rev {
			pin(s.MainPID)
		}
		for _, g := range s.Generations {
			if g.Revision == rev {
				pin(g.PIDs...)
			}
		}
	}
	for _, p := range obs.Apps {
		// one that is only about to become an app may become any revision's
		if p.Revision == rev || p.Revision.Unset() {
			pin(p.PID)
		}
	}
	return u, m.mountUsers(rec, rev, u, pin)
}

func (m *Manager) mountUsers(rec *Record, rev snap.Revision, u *Use, pin func(...int)) error {
	where := m.Dirs.Mount(rec.Name, rev)
	at, err := osutil.MountedAt(where)
	if err != nil || at == nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Stat(where, &st); err != nil {
		return fmt.Errorf("cannot look at %s: %w", where, err)
	}
	holders, err := osutil.HoldersOf(st.Dev)
	if err != nil {
		return err
	}
	for _, h := range holders {
		cg, err := osutil.CgroupOf(h.PID)
		if err == nil && strings.Contains(cg, "/snap."+rec.Name+".") {
			pin(h.PID)
		} else {
			u.Strangers = append(u.Strangers, h)
		}
	}
	nss, err := osutil.MountNamespacesWith(st.Dev)
	if err != nil {
		return err
	}
	for _, ns := range nss {
		for _, mnt := range ns.Mounts {
			// a copy that neither shares nor follows stays after our unmount
			if len(mnt.Tags) == 0 && len(ns.PIDs) > 0 {
				pin(ns.PIDs...)
			}
		}
	}
	return nil
}
