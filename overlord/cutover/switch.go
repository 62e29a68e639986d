// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"endured/osutil"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// wish is what a direction of the switch wants of one service.
type wish int

const (
	leave wish = iota // as it is, running or not
	up                // running from the target revision
	down              // not running
)

// course is one direction: what to arrive at, coming from what.
type course struct {
	target, other *snap.Info // nil is none
	wish          map[string]wish
	enable        []string // apps that get enabled
	disable       []string // apps that get disabled
	forward       bool
}

// forward carries the plan out.
func (sw *Switch) forward(ctx context.Context) error {
	c := course{target: sw.to, other: sw.from, wish: map[string]wish{}, forward: true}
	for _, s := range sw.intent.Plan.Services {
		c.wish[s.App] = forwardWish(s)
		if s.Enable {
			c.enable = append(c.enable, s.App)
		}
	}
	return sw.travel(ctx, c)
}

func forwardWish(s lifecycle.Step) wish {
	switch s.Action {
	case lifecycle.DoRestart, lifecycle.DoStart, lifecycle.SignalStart:
		return up
	case lifecycle.DoStop:
		return down
	}
	return leave
}

// backAttempts is how often going back is tried: nothing is behind it that
// could put things right.
const backAttempts = 3

// back returns to what was there before. If that fails again and again, the
// gate is opened all the same: what is there then can at least be started.
func (sw *Switch) back(ctx context.Context) error {
	var err error
	for n := range backAttempts {
		if n > 0 {
			sw.task.Log("Going back again: %v", err)
			select {
			case <-ctx.Done():
				return err
			case <-time.After(time.Duration(n) * 100 * time.Millisecond):
			}
		}
		if err = sw.backOnce(ctx); err == nil || stopping(ctx) {
			return err
		}
	}
	if sw.from != nil {
		err = errors.Join(err, sw.m.Seals.Unseal(ctx, sw.record, sw.from.Revision))
	}
	return errors.Join(err, sw.gate.open(ctx))
}

// backOnce goes back: services that were stopped run again from the old
// revision, those that were never touched are not touched now.
func (sw *Switch) backOnce(ctx context.Context) error {
	c := course{target: sw.from, other: sw.to, wish: map[string]wish{}}
	if err := sw.m.Hooks.Abandon(ctx, sw.task); err != nil {
		return err
	}
	for _, s := range sw.intent.Plan.Services {
		switch s.Action {
		case lifecycle.DoRestart, lifecycle.DoStop, lifecycle.SignalStart:
			c.wish[s.App] = up
		case lifecycle.DoStart:
			c.wish[s.App] = down
			if sw.from != nil && service(sw.from, s.App) != nil && s.MainPID != 0 {
				c.wish[s.App] = up
			}
		default:
			c.wish[s.App] = leave
		}
		if s.Enable {
			c.disable = append(c.disable, s.App)
		}
	}
	if err := sw.reviveBack(ctx, c); err != nil {
		return err
	}
	var err error
	if c.enable, err = sw.disabledOnTheWay(); err != nil {
		return err
	}
	sw.rejoin(ctx)
	return sw.travel(ctx, c)
}

// disabledOnTheWay lists the services with units that going forward disables,
// because the new side lacks them, and that were enabled before.
func (sw *Switch) disabledOnTheWay() ([]string, error) {
	if sw.from == nil {
		return nil, nil
	}
	before, err := wrappers.Units(sw.from, sw.m.Wrap)
	if err != nil {
		return nil, err
	}
	var after wrappers.Set
	if sw.to != nil {
		if after, err = wrappers.Units(sw.to, sw.m.Wrap); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, a := range sw.from.Services() {
		lacks := func(u string) bool { return !slices.Contains(after.Enable[a.Name], u) }
		if slices.ContainsFunc(before.Enable[a.Name], lacks) && !slices.Contains(sw.intent.Disabled, a.Name) {
			out = append(out, a.Name)
		}
	}
	return out, nil
}

// travel is the way of the switch, in either direction.
func (sw *Switch) travel(ctx context.Context, c course) error {
	sw.way = "back"
	if c.forward {
		sw.way = "forward"
	}
	sw.prepareSeal(ctx, c)
	hctx, stop := context.WithTimeoutCause(ctx, sw.budget(c), errBudget)
	defer stop()
	jobs, err := sw.held(hctx, c)
	if err != nil {
		if hctx.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("cannot switch snap %q within %s: %w", sw.setup.Snap, sw.budget(c), err)
		}
		return err
	}
	if err := sw.untell(c); err != nil { // the new main would read it, too
		return err
	}
	if err := sw.timed("release", func() error { return sw.release(ctx, c, jobs) }); err != nil {
		return err
	}
	if err := sw.timed("signals", func() error { return sw.telling(c, func() error { return sw.notifies(ctx, c) }) }); err != nil {
		return err
	}
	if err := sw.ending(ctx, c); err != nil {
		return err
	}
	if err := sw.observe(ctx, c); err != nil {
		return err
	}
	if err := sw.timed("gate away", func() error { return sw.gate.retire(ctx) }); err != nil {
		return err
	}
	if err := sw.timed("unpin", func() error { return sw.unpin(ctx, c) }); err != nil {
		return err
	}
	if c.forward {
		sync := func() error { return sw.m.Snaps.SyncCopy(ctx, sw.task.ChangeID(), sw.setup) }
		if err := sw.timed("sync", sync); err != nil {
			return err
		}
	}
	if err := sw.timed("links", sw.syncLinks); err != nil {
		return err
	}
	if err := sw.timed("boot link", sw.gate.unlink); err != nil {
		return err
	}
	if err := sw.unstage(c); err != nil {
		return err
	}
	sw.task.Debug("Steps of the switch, in ms: %s", strings.Join(sw.timings, ", "))
	return nil
}

var errBudget = errors.New("the switch's budget is used up")

// budget is the time for the part that holds starts: the switch's own and what
// the processes were promised for stopping.
func (sw *Switch) budget(c course) time.Duration {
	var together, scopes time.Duration
	budget := sw.m.Budget
	if c.forward {
		budget += sw.m.Hooks.Allowance(sw.intent.Plan)
	}
	for _, s := range sw.intent.Plan.Services {
		switch {
		case c.wish[s.App] == leave:
		case c.wish[s.App] == down:
			budget += s.StopTimeout // one after the other, each with
			if s.Signal != "" {
				budget += s.StopTimeout // what its stop-mode may have spared
			}
		case !s.SendSIGKILL:
			budget += s.StopTimeout // asked one after the other
		default:
			together = max(together, s.StopTimeout)
		}
	}
	for _, g := range sw.intent.Plan.Generations {
		if g.Action == lifecycle.DoStop {
			scopes = max(scopes, g.StopTimeout)
		}
	}
	for _, a := range sw.intent.Plan.Apps {
		if a.Action == lifecycle.DoStop {
			scopes = max(scopes, snap.DefaultStopTimeout)
		}
	}
	return budget + together + scopes
}

// held is what happens while no start can pass. It returns the start jobs that
// wait for the release, by app.
func (sw *Switch) held(ctx context.Context, c course) (map[string]*systemd.Job, error) {
	jobs := map[string]*systemd.Job{}
	var changed []string
	steps := []struct {
		name string
		do   func() error
	}{
		{"staging", func() error { return sw.stage(c) }},
		{"gate", func() error { return sw.gate.arm(ctx) }},
		{"reasons", func() error { return sw.tellWhy(c) }},
		{"settle", func() error { return sw.settle(ctx, c) }},
		{"strays", func() error { return sw.strays(ctx, c) }},
		{"reset", func() error { return sw.reset(ctx, c) }},
		{"thaw", func() error { return sw.thawAll(ctx, c) }},
		{"asks", func() error { return sw.asks(ctx, c) }},
		{"stops", func() error { return sw.stops(ctx, c) }},
		{"early restarts", func() error { return sw.restarts(ctx, c, jobs, true) }},
		{"units", func() (err error) { changed, err = sw.units(ctx, c); return err }},
		{"gate check", func() error { return sw.gate.check(ctx) }},
		{"swift moves", func() error { sw.swift(c); return nil }},
		{"restarts", func() error { return sw.restarts(ctx, c, jobs, false) }},
		{"seal", func() error { return sw.seal(ctx, c) }},
		{"data", func() error { return sw.data(ctx, c) }},
		{"current", func() error { return sw.current(c) }},
		{"hooks", func() error { return sw.hooks(ctx, c, jobs) }},
		{"activators", func() error { return sw.activators(ctx, c, changed) }},
	}
	for _, s := range steps {
		if err := sw.timed(s.name, s.do); err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

// data brings the differences of the data over, which is sealed by now.
// On the way back the copy is no copy any more: should a crash have the way
// forward begin again, it must not miss what the old revision writes from now on.
func (sw *Switch) data(ctx context.Context, c course) error {
	if sw.gate.breached() > 0 {
		if err := sw.gate.check(ctx); err != nil {
			return err
		}
	}
	if c.target != nil && !sw.setup.Brings() {
		if err := sw.m.Snaps.EnsureDirs(c.target); err != nil {
			return err
		}
	}
	if !c.forward {
		return sw.m.Snaps.TakeBackCopy(ctx, sw.task.ChangeID(), sw.setup)
	}
	return sw.m.Snaps.FinishCopy(ctx, sw.task.ChangeID(), sw.setup)
}

// timed does a step and notes how long it took.
func (sw *Switch) timed(name string, do func() error) error {
	began := time.Now()
	err := do()
	sw.timings = append(sw.timings, fmt.Sprintf("%s %.1f", name, float64(time.Since(began).Microseconds())/1000))
	if err == nil && sw.m.Fault != nil {
		sw.m.Fault("switch-snap:" + sw.way + ":" + name)
	}
	return err
}

// settle waits until no unit of the snap is between two states: a start that is
// under way is not held by the gate, and would mix two unit files. A start that
// takes too long of what is to be restarted is cut short by a restart under the
// unit file that it began with, whose second half waits at the gate.
func (sw *Switch) settle(ctx context.Context, c course) error {
	restarted := map[string]bool{}
	for _, a := range c.wished(up) {
		restarted[a.Unit()] = true
	}
	stopped := sw.goes(c)
	for _, u := range allUnits(c.target, c.other) {
		if stopped[u] {
			continue // at once, and before its unit file changes
		}
		if err := sw.settleUnit(ctx, u, restarted[u]); err != nil {
			return err
		}
	}
	return nil
}

// goes lists the units of the services that stops ends.
func (sw *Switch) goes(c course) map[string]bool {
	out := map[string]bool{}
	for _, i := range []*snap.Info{c.target, c.other} {
		if i == nil {
			continue
		}
		for _, a := range i.Services() {
			if c.wish[a.Name] == down || service(c.target, a.Name) == nil && c.wish[a.Name] == leave {
				out[a.Unit()] = true
			}
		}
	}
	return out
}

func (sw *Switch) settleUnit(ctx context.Context, unit string, restarted bool) error {
	sts, err := sw.m.Systemd.Status(ctx, unit)
	if err != nil {
		return err
	}
	if sts[0].AtWork() {
		return nil
	}
	if restarted {
		patience, stop := context.WithTimeout(ctx, sw.m.Budget/4)
		_, err := sw.m.Systemd.Settle(patience, unit, true)
		stop()
		if err == nil {
			return nil
		}
		sts, err := sw.m.Systemd.Status(ctx, unit)
		if err != nil {
			return err
		}
		if sts[0].ActiveState == "activating" {
			sw.task.Log("%s takes too long to start and is restarted", unit)
			if _, err := sw.m.Systemd.Restart(ctx, unit, "ignore-requirements"); err != nil {
				return fmt.Errorf("cannot cut the start of %s short: %w", unit, err)
			}
		}
	}
	if _, err := sw.m.Systemd.Settle(ctx, unit, true); err != nil {
		return fmt.Errorf("cannot wait for %s to settle: %w", unit, err)
	}
	return nil
}

// reset forgets failures and start limits of what will be started.
func (sw *Switch) reset(ctx context.Context, c course) error {
	for _, a := range c.wished(up) {
		if err := sw.m.Systemd.ResetFailed(ctx, a.Unit()); err != nil {
			return err
		}
	}
	return nil
}

// allUnits lists the service and activator units of both sides.
func allUnits(infos ...*snap.Info) []string {
	seen := map[string]bool{}
	var out []string
	for _, i := range infos {
		if i == nil {
			continue
		}
		for _, a := range i.Services() {
			for _, u := range append(snapstate.ActivatorUnits(a), a.Unit()) {
				if !seen[u] {
					seen[u] = true
					out = append(out, u)
				}
			}
		}
	}
	return out
}

// service returns the daemon with that name, nil if the snap has none.
func service(i *snap.Info, name string) *snap.App {
	if i == nil {
		return nil
	}
	if a := i.Apps[name]; a != nil && a.IsService() {
		return a
	}
	return nil
}

// either returns the service from the first side that has it.
func either(name string, sides ...*snap.Info) *snap.App {
	for _, i := range sides {
		if a := service(i, name); a != nil {
			return a
		}
	}
	return nil
}

// wished lists the apps with a wish: in start order, dependants last.
func (c *course) wished(w wish) []*snap.App {
	var out []*snap.App
	seen := map[string]bool{}
	for _, i := range []*snap.Info{c.target, c.other} {
		if i == nil {
			continue
		}
		for _, a := range i.Services() {
			if c.wish[a.Name] == w && !seen[a.Name] {
				seen[a.Name] = true
				out = append(out, a)
			}
		}
	}
	return out
}

// current moves the links that say which revision is current, and the launchers.
func (sw *Switch) current(c course) error {
	name := sw.setup.Snap
	var err error
	if c.target == nil {
		_, err = wrappers.Withdraw(wrappers.CurrentLinks(name, c.other.Revision), sw.m.Wrap)
	} else if _, err = wrappers.SwapNames(wrappers.CurrentLinks(name, c.target.Revision), sw.m.Wrap); err != nil {
		err = fmt.Errorf("cannot make revision %s of snap %q current: %w", c.target.Revision, name, err)
	}
	if err != nil {
		return err
	}
	return sw.launchers(c)
}

// syncLinks makes what current did durable, now that nothing waits for it.
func (sw *Switch) syncLinks() error {
	for _, l := range []string{sw.m.Dirs.CurrentData(sw.setup.Snap), sw.m.Dirs.Current(sw.setup.Snap)} {
		if err := osutil.SyncDirEntry(l); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
