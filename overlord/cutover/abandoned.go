// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// abandoned is a main process that was signalled and given up on.
type abandoned struct {
	Snap         string `json:"snap"`
	App          string `json:"app"`
	Unit         string `json:"unit"`
	PID          int    `json:"pid"`
	InvocationID string `json:"invocation-id"`
	BootID       string `json:"boot-id"`
}

const abandonedKey = "abandoned/"

// abandon records a main that did not end, and watches it.
func (m *Manager) abandon(snapName string, s lifecycle.Step) error {
	a := abandoned{Snap: snapName, App: s.App, Unit: s.Unit, PID: s.MainPID, InvocationID: s.InvocationID, BootID: m.BootID}
	err := m.State.Update(func(tx *state.Tx) error { return tx.Set(abandonedKey+s.Unit, a) })
	if err != nil {
		return err
	}
	m.watch(a)
	return nil
}

// WatchAbandoned watches again what an earlier daemon had given up on.
func (m *Manager) WatchAbandoned() error {
	var list []abandoned
	err := m.State.View(func(tx *state.Tx) error {
		keys, err := tx.Keys(abandonedKey)
		if err != nil {
			return err
		}
		for _, k := range keys {
			var a abandoned
			if err := tx.Get(k, &a); err != nil {
				return err
			}
			list = append(list, a)
		}
		return nil
	})
	for _, a := range list {
		m.watch(a)
	}
	return err
}

// watch starts the current revision as soon as the process is gone. It ends
// with the daemon.
func (m *Manager) watch(a abandoned) {
	m.watches.Add(1)
	go func() {
		defer m.watches.Done()
		if err := m.revive(m.life, a); err != nil && m.life.Err() == nil {
			m.Log.Error("cannot start what was given up on", "unit", a.Unit, "err", err)
		}
	}()
}

func (m *Manager) revive(ctx context.Context, a abandoned) error {
	same := func() bool {
		sts, err := m.Systemd.Status(ctx, a.Unit)
		return err == nil && sts[0].InvocationID == a.InvocationID && sts[0].MainPID == a.PID
	}
	if a.BootID == m.BootID {
		if err := osutil.WaitExit(ctx, a.PID, same); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	if _, err := m.Systemd.Settle(ctx, a.Unit, true); err != nil {
		return err
	}
	wanted, err := m.settleAbandoned(ctx, a)
	if err != nil || !wanted {
		return err
	}
	sts, err := m.Systemd.Status(ctx, a.Unit)
	if err != nil || snapstate.UnitRuns(sts[0]) {
		return err
	}
	if err := m.Systemd.Run(ctx, "start", a.Unit, "replace"); err != nil {
		return fmt.Errorf("cannot start %s: %w", strings.TrimSuffix(a.Unit, ".service"), err)
	}
	return nil
}

// settleAbandoned forgets the process and tells whether the service is to be
// started. A change that works on the snap has its say first.
func (m *Manager) settleAbandoned(ctx context.Context, a abandoned) (wanted bool, err error) {
	for {
		var busy *snapstate.ConflictError
		err := m.State.Update(func(tx *state.Tx) error {
			if errors.As(snapstate.CheckConflict(tx, "", a.Snap), &busy) {
				return nil
			}
			rec, err := snapstate.Get(tx, a.Snap)
			wanted = err == nil && rec.Active && !slices.Contains(rec.HandStopped, a.App)
			if wanted {
				tx.Warnf("%s.%s, which had been given up on, has ended (pid %d); revision %s is started", a.Snap, a.App, a.PID, rec.Current)
			}
			return tx.Delete(abandonedKey + a.Unit)
		})
		if err != nil || busy == nil {
			return wanted, err
		}
		if err := m.State.WaitChange(ctx, busy.ChangeID); err != nil {
			return false, err
		}
	}
}

// Stop ends the watches; the next daemon takes them up again.
func (m *Manager) Stop() {
	m.end()
	m.watches.Wait()
}
