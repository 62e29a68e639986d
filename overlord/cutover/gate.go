// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"endured/osutil"
	"endured/systemd"
	"endured/wrappers"
)

// gate holds every start of one snap's services. Two things make it:
//
//   - the start job of snapd-refresh-gate@<snap>.service. Every service of the
//     snap is ordered after it, so while that job runs (the unit never becomes
//     active) stops proceed and starts wait, and connections queue.
//   - the mark, dirs.SwitchMark. Should the job end early, killed
//     or cancelled, the waiting starts run at once; a service whose mark exists
//     skips its start instead, until the watch has armed the job again.
//
// A link into multi-user.target.wants makes a boot after a loss of power begin
// with the gate held, until the daemon has completed or undone the change.
type gate struct {
	m    *Manager
	snap string

	mu       sync.Mutex
	held     bool
	job      *systemd.Job // the fence
	breaches int
	stop     context.CancelFunc
	watching sync.WaitGroup
}

func (m *Manager) newGate(snap string) *gate { return &gate{m: m, snap: snap} }

func (m *Manager) bootLink(snap string) string {
	return m.Dirs.Under(wrappers.GateLink(snap, m.Wrap).Path)
}

// arm makes the boot link and holds starts from now on. It may be called again.
func (g *gate) arm(ctx context.Context) error {
	if _, err := wrappers.Swap([]wrappers.File{wrappers.GateLink(g.snap, g.m.Wrap)}, g.m.Wrap); err != nil {
		return fmt.Errorf("cannot hold starts over a reboot: %w", err)
	}
	mark := g.m.Dirs.SwitchMark(g.snap)
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		return fmt.Errorf("cannot hold starts: %w", err)
	}
	if err := osutil.WriteFile(mark, nil, 0o644); err != nil {
		return fmt.Errorf("cannot hold starts: %w", err)
	}
	g.mu.Lock()
	already := g.held
	g.mu.Unlock()
	if already {
		return g.check(ctx)
	}
	job, err := g.start(ctx)
	if err != nil {
		return err
	}
	g.close() // the watch of an earlier round
	g.mu.Lock()
	g.held, g.job = true, job
	g.mu.Unlock()
	wctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	g.watching.Add(1)
	go g.watch(wctx, job)
	return g.check(ctx)
}

func (g *gate) start(ctx context.Context) (*systemd.Job, error) {
	job, err := g.m.Systemd.Start(ctx, wrappers.GateUnit(g.snap), "replace")
	if err != nil {
		return nil, fmt.Errorf("cannot hold starts of snap %q: %w", g.snap, err)
	}
	return job, nil
}

// watch arms the gate again whenever its job ends before the release.
func (g *gate) watch(ctx context.Context, job *systemd.Job) {
	defer g.watching.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case <-job.Done():
		}
		g.mu.Lock()
		if !g.held {
			g.mu.Unlock()
			return
		}
		g.breaches++
		hopeless := g.breaches >= maxBreaches
		g.mu.Unlock()
		if hopeless {
			g.m.Log.Error("refresh gate does not hold, giving up", "snap", g.snap, "result", job.Result())
			return
		}
		g.m.Log.Warn("refresh gate ended early, arming it again", "snap", g.snap, "result", job.Result())
		next, err := g.start(ctx)
		if err != nil {
			g.m.Log.Error("cannot arm refresh gate again", "snap", g.snap, "err", err)
			return
		}
		g.mu.Lock()
		g.job, job = next, next
		g.mu.Unlock()
	}
}

// maxBreaches is how often a gate is armed again: one whose process cannot run
// would end at once for ever. The switch fails then, behind the mark.
const maxBreaches = 20

// check makes sure that the gate's job exists: the unit's state says nothing.
func (g *gate) check(ctx context.Context) error {
	sts, err := g.m.Systemd.Status(ctx, wrappers.GateUnit(g.snap))
	if err != nil {
		return err
	}
	if sts[0].JobID == 0 {
		return fmt.Errorf("cannot hold starts of snap %q: the refresh gate has no job (%s)", g.snap, sts[0].ActiveState)
	}
	return nil
}

// breached tells how often the gate's job ended early.
func (g *gate) breached() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.breaches
}

// release lets the waiting starts go, by cancelling the job that they wait for:
// a stop of the gate's unit would make them wait for its process, too.
func (g *gate) release(ctx context.Context) error {
	g.mu.Lock()
	g.held = false
	job := g.job
	g.mu.Unlock()
	if err := os.Remove(g.m.Dirs.SwitchMark(g.snap)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot let starts go: %w", err)
	}
	if job == nil {
		return nil
	}
	if err := g.m.Systemd.CancelJob(ctx, job.ID); err != nil {
		return fmt.Errorf("cannot let starts of snap %q go: %w", g.snap, err)
	}
	return nil
}

// retire ends the gate's process and the watch, after release.
func (g *gate) retire(ctx context.Context) error {
	g.close()
	if err := g.m.Systemd.Run(ctx, "stop", wrappers.GateUnit(g.snap), "replace"); err != nil {
		return fmt.Errorf("cannot stop the refresh gate of snap %q: %w", g.snap, err)
	}
	return nil
}

// linked tells whether the boot link stands.
func (g *gate) linked() bool {
	_, err := os.Lstat(g.m.bootLink(g.snap))
	return err == nil
}

// unlink takes the boot link away, after release. It is kept for the way back
// until it is tidied away.
func (g *gate) unlink() error {
	removed, err := wrappers.Withdraw([]wrappers.File{wrappers.GateLink(g.snap, g.m.Wrap)}, g.m.Wrap)
	if err != nil {
		return fmt.Errorf("cannot let starts go at boot: %w", err)
	}
	if len(removed) == 0 {
		return nil
	}
	return osutil.SyncDirEntry(g.m.bootLink(g.snap))
}

// open ends it all.
func (g *gate) open(ctx context.Context) error {
	err := errors.Join(g.release(ctx), g.retire(ctx), g.unlink())
	wrappers.Unstage([]wrappers.File{wrappers.GateLink(g.snap, g.m.Wrap)}, g.m.Wrap)
	return err
}

// close ends the watch; the gate itself stays as it is.
func (g *gate) close() {
	if g.stop != nil {
		g.stop()
		g.watching.Wait()
		g.stop = nil
	}
}

// Reconcile opens gates that no unfinished change will open: what is left of a
// daemon that lost its state. busy are the snaps that unfinished changes work on.
func (m *Manager) Reconcile(ctx context.Context, busy map[string]bool) error {
	if err := m.untellLeft(busy); err != nil {
		return err
	}
	left := map[string]bool{}
	for _, pat := range []string{m.bootLink("*"), m.Dirs.SwitchMark("*")} {
		found, err := filepath.Glob(pat)
		if err != nil {
			return err
		}
		pre, post, _ := strings.Cut(pat, "*")
		for _, f := range found {
			left[strings.TrimSuffix(strings.TrimPrefix(f, pre), post)] = true
		}
	}
	var errs []error // one that cannot be opened is no reason to leave the others closed
	for name := range left {
		if !busy[name] {
			errs = append(errs, m.newGate(name).open(ctx))
		}
	}
	return errors.Join(errs...)
}
