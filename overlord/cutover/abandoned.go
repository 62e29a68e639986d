// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/systemd"
)

// abandoned is a main process that was asked to end and takes its time: a
// switch gave up on it, or a hook asked it to and the switch is over.
type abandoned struct {
	Snap         string `json:"snap"`
	App          string `json:"app"`
	Unit         string `json:"unit"`
	PID          int    `json:"pid"`
	InvocationID string `json:"invocation-id"`
	BootID       string `json:"boot-id"`
	// Until, if set, is when it stops being of interest: nobody can tell whether a
	// hook has asked it.
	Until time.Time `json:"until,omitzero"`
}

const abandonedKey = "abandoned/"

// abandon records a main that did not end, and watches it. within, if set,
// bounds that.
func (m *Manager) abandon(snapName string, s lifecycle.Step, within time.Duration) error {
	a := abandoned{Snap: snapName, App: s.App, Unit: s.Unit, PID: s.MainPID, InvocationID: s.InvocationID, BootID: m.BootID}
	if within > 0 {
		a.Until = time.Now().Add(within)
	}
	err := m.State.Update(func(tx *state.Tx) error { return tx.Set(abandonedKey+s.Unit, a) })
	if err != nil {
		return err
	}
	m.watch(a)
	return nil
}

// WatchAbandoned watches again what an earlier daemon had watched.
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
			m.Log.Error("cannot start what took its time to end", "unit", a.Unit, "err", err)
		}
	}()
}

func (m *Manager) revive(ctx context.Context, a abandoned) error {
	if stays, err := m.outlasts(ctx, a); err != nil {
		return err
	} else if stays {
		return m.forget(a)
	}
	// PID 1 may not have noticed yet
	if _, err := m.Systemd.WaitUnit(ctx, a.Unit, func(st systemd.UnitStatus) bool {
		return st.InvocationID != a.InvocationID || st.MainPID != a.PID
	}); err != nil {
		return err
	}
	if _, err := m.Systemd.Settle(ctx, a.Unit, true); err != nil {
		return err
	}
	wanted, err := m.settleAbandoned(ctx, a)
	if err != nil || !wanted {
		return err
	}
	if err := m.Systemd.Run(ctx, "start", a.Unit, "replace"); err != nil {
		return fmt.Errorf("cannot start %s: %w", strings.TrimSuffix(a.Unit, ".service"), err)
	}
	return nil
}

// outlasts waits for the exit of the process and tells whether it is of no
// interest any more before that.
func (m *Manager) outlasts(ctx context.Context, a abandoned) (bool, error) {
	if a.BootID != m.BootID {
		return !a.Until.IsZero(), nil // the boot starts what is enabled
	}
	wctx, stop := ctx, func() {}
	if !a.Until.IsZero() {
		wctx, stop = context.WithDeadline(ctx, a.Until)
	}
	defer stop()
	same := func() bool {
		sts, err := m.Systemd.Status(ctx, a.Unit)
		return err == nil && sts[0].InvocationID == a.InvocationID && sts[0].MainPID == a.PID
	}
	err := osutil.WaitExit(wctx, a.PID, same)
	switch {
	case err == nil, errors.Is(err, unix.ESRCH):
		return false, nil
	case wctx.Err() != nil && ctx.Err() == nil:
		return same(), nil
	}
	return false, err
}

// settleAbandoned forgets the process and tells whether the service is to be
// started. A change that works on the snap has its say first; so have systemd,
// and whoever stopped the service after all.
func (m *Manager) settleAbandoned(ctx context.Context, a abandoned) (wanted bool, err error) {
	for {
		sts, err := m.Systemd.Status(ctx, a.Unit)
		if err != nil {
			return false, err
		}
		runs := snapstate.UnitRuns(sts[0])
		stopped := sts[0].InvocationID == a.InvocationID && sts[0].WasStopped()
		var busy *snapstate.ConflictError
		err = m.State.Update(func(tx *state.Tx) error {
			if wanted = false; errors.As(snapstate.CheckConflict(tx, "", a.Snap), &busy) {
				return nil
			}
			var last abandoned
			if err := tx.Get(abandonedKey+a.Unit, &last); errors.Is(err, state.ErrNoState) || last.InvocationID != a.InvocationID {
				return nil // another watch was first
			} else if err != nil {
				return err
			}
			rec, err := snapstate.Get(tx, a.Snap)
			wanted = err == nil && rec.Active && !runs && !stopped && !slices.Contains(rec.HandStopped, a.App)
			if wanted {
				tx.Warnf("%s.%s, %s, has ended (pid %d); revision %s is started", a.Snap, a.App, a.why(), a.PID, rec.Current)
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

func (a *abandoned) why() string {
	if a.Until.IsZero() {
		return "which had been given up on"
	}
	return "which went on after a hook that may have asked it to end"
}

// forget drops what was watched and stays.
func (m *Manager) forget(a abandoned) error {
	return m.State.Update(func(tx *state.Tx) error {
		var last abandoned
		if err := tx.Get(abandonedKey+a.Unit, &last); err != nil || last.InvocationID != a.InvocationID || !last.Until.Equal(a.Until) {
			return nil // another watch has it
		}
		return tx.Delete(abandonedKey + a.Unit)
	})
}

// Stop ends the watches; the next daemon takes them up again.
func (m *Manager) Stop() {
	m.end()
	m.watches.Wait()
}
