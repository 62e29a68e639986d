// SPDX-License-Identifier: Apache-2.0

// Package overlord builds everything that knows about snaps, in one
// constructor, and keeps it running. A whole daemon in a test is New over a
// temporary root with a fake systemd.
package overlord

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"endured/dirs"
	"endured/interfaces/apparmor"
	"endured/interfaces/builtin"
	"endured/osutil"
	"endured/overlord/configstate"
	"endured/overlord/confinement"
	"endured/overlord/cutover"
	"endured/overlord/hookstate"
	"endured/overlord/ifacestate"
	"endured/overlord/recipes"
	"endured/overlord/seal"
	"endured/overlord/servicestate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/store"
	"endured/systemd"
	"endured/wrappers"
)

// Config is everything that the overlord needs from the world.
type Config struct {
	Dirs    dirs.Dirs
	Systemd *systemd.Manager
	Log     *slog.Logger
	// CgroupRoot is where the unified cgroup hierarchy is mounted.
	CgroupRoot string
	// BootID tells this boot from others.
	BootID string
	// SnapCommand is the path of the "snap" program, for launchers.
	SnapCommand string
	// Store is where snaps come from; nil is the directory that the setting
	// store.path names, /var/lib/snapd/store by default.
	Store store.Store
	// Journal is where the output of hooks is found; nil shows none.
	Journal hookstate.Journal
	// NoReaper leaves revisions that outlive their refresh to the next one: for
	// tests that count every call.
	NoReaper bool
	// FaultHook is called around every commit, see state.Options, and between the
	// steps of a switch and of a seal; nil in production.
	FaultHook func(point string)
}

// DefaultRetain is how many revisions of a snap are kept.
const DefaultRetain = 2

// Overlord is the whole of it. It has every method that daemon.Backend asks for.
type Overlord struct {
	*recipes.Manager
	config   Config
	state    *state.State
	runner   *state.Runner
	snaps    *snapstate.Manager
	services *servicestate.Manager
	cutover  *cutover.Manager
	hooks    *hookstate.Manager
	reaper   *recipes.Reaper
	plugs    *ifacestate.Manager
	confine  *confinement.Manager
	seals    *seal.Manager
}

// New opens the state and builds the managers. Nothing runs yet.
func New(c Config) (*Overlord, error) {
	if err := makeLib(c.Dirs); err != nil {
		return nil, err
	}
	st, err := state.Open(c.Dirs.StateDB(), state.Options{Logger: c.Log, FaultHook: c.FaultHook})
	if err != nil {
		return nil, err
	}
	if c.Store == nil {
		c.Store = store.NewDir(func() string { return configstate.StorePath(st, c.Dirs.Store()) })
	}
	run := state.NewRunner(st, c.Log)
	run.Observe(snapstate.Witness)
	wrap := wrappers.Options{
		Dirs: c.Dirs, SnapCommand: c.SnapCommand, Machine: machine(c.Dirs),
		StopTimeoutMax: func() time.Duration { return configstate.StopTimeoutMax(st) },
	}
	profiles := apparmor.NewStore(apparmor.Config{
		Dirs: c.Dirs, Kernel: apparmor.HostKernel(c.Dirs), Compiler: apparmor.HostParser(c.Dirs), Log: c.Log,
	})
	snaps := snapstate.New(snapstate.Config{
		Dirs: c.Dirs, Profiles: profiles, State: st, Systemd: c.Systemd, Log: c.Log,
		CgroupRoot: c.CgroupRoot, BootID: c.BootID, Store: c.Store,
		Retain: func() int { return configstate.Retain(st, DefaultRetain) },
	}, run)
	plugs := ifacestate.New(ifacestate.Config{
		State: st, Snaps: snaps, Systemd: c.Systemd, Interfaces: builtin.All(), Log: c.Log,
	}, run)
	confine := confinement.New(confinement.Config{State: st, Snaps: snaps, Profiles: profiles, Specs: plugs, Log: c.Log}, run)
	wrap.Confiner = confine
	plugs.Confine(confine, wrap)
	hooks := hookstate.New(hookstate.Config{
		Dirs: c.Dirs, State: st, Systemd: c.Systemd, Snaps: snaps, Journal: c.Journal, Log: c.Log, Wrap: wrap, CgroupRoot: c.CgroupRoot,
	}, run)
	seals := seal.New(seal.Config{Dirs: c.Dirs, State: st, Snaps: snaps, Profiles: profiles, Unsealable: unsealable(plugs), Shared: builtin.SharedData, Log: c.Log, Fault: c.FaultHook})
	cut := cutover.New(cutover.Config{
		Dirs: c.Dirs, State: st, Systemd: c.Systemd, Hooks: hooks, Snaps: snaps, Seals: seals, Log: c.Log, Wrap: wrap, BootID: c.BootID,
		CgroupRoot: c.CgroupRoot, Fault: c.FaultHook,
	}, run)
	services := servicestate.New(servicestate.Config{
		Dirs: c.Dirs, State: st, Systemd: c.Systemd, Snaps: snaps, Asker: cut, Bus: cut, Log: c.Log, Wrap: wrap, BootID: c.BootID,
		Unsealable: unsealable(plugs),
	}, run)
	configstate.New(configstate.Config{Dirs: c.Dirs, State: st, Systemd: c.Systemd, Snaps: snaps, Wrap: wrap}, run)
	rec := recipes.New(recipes.Config{
		Dirs: c.Dirs, State: st, Runner: run, Installed: snaps, Running: services, Store: c.Store, Plugs: plugs, Log: c.Log,
	})
	return &Overlord{
		Manager: rec, config: c, state: st, runner: run, snaps: snaps, services: services, cutover: cut, hooks: hooks,
		plugs: plugs, confine: confine, seals: seals, reaper: recipes.NewReaper(rec),
	}, nil
}

// makeLib makes the daemon's directories. The system bus, which is a user of its
// own by the time, has to read below the first.
func makeLib(d dirs.Dirs) error {
	lib := d.Lib()
	err := os.MkdirAll(lib, 0o755)
	if err == nil {
		err = os.MkdirAll(d.Blobs(), 0o700)
	}
	if err != nil {
		return fmt.Errorf("cannot make the directories of snapd: %w", err)
	}
	fi, err := os.Stat(lib) // an operator may have put it elsewhere by a link
	if err == nil && fi.Mode().Perm() != 0o755 {
		err = os.Chmod(lib, 0o755)
	}
	if err != nil {
		return fmt.Errorf("cannot let the system bus read below %s: %w", lib, err)
	}
	return nil
}

// unsealable says why what interfaces give an app keeps its seal from being whole.
func unsealable(plugs *ifacestate.Manager) func(*snap.Info, string) []string {
	return func(info *snap.Info, app string) []string {
		spec, err := plugs.SpecFor(info, app)
		if err != nil || spec == nil {
			return nil
		}
		return spec.SealLimits()
	}
}

// machine is what tells this machine from others, "" if nothing does.
func machine(d dirs.Dirs) string {
	id, err := os.ReadFile(d.Under("/etc/machine-id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// Start puts right what an earlier daemon left behind and then goes on with
// unfinished changes. It returns at once after that.
func (o *Overlord) Start(ctx context.Context) error {
	busy := map[string]bool{}
	err := o.state.View(func(tx *state.Tx) error {
		for _, name := range snapstate.Busy(tx) {
			busy[name] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := o.confine.Start(ctx); err != nil {
		o.config.Log.Error("some snaps may not start", "err", err) // without their profile
	}
	if err := o.cutover.Reconcile(ctx, busy); err != nil {
		return err
	}
	if err := o.seals.Resume(); err != nil {
		o.config.Log.Error("cannot watch what is not sealed whole", "err", err)
	}
	if err := o.cutover.WatchAbandoned(); err != nil {
		o.config.Log.Error("cannot watch what was given up on", "err", err)
	}
	if err := o.snaps.CleanSpool(); err != nil {
		o.config.Log.Warn("cannot clean up old uploads", "err", err)
	}
	o.hooks.Start(ctx)
	if !o.config.NoReaper {
		o.reaper.Start(ctx)
	}
	o.runner.Start(ctx)
	return nil
}

// Stop ends what runs without losing it: the next Start goes on.
func (o *Overlord) Stop() error {
	o.runner.Stop()
	o.reaper.Stop()
	o.hooks.Stop()
	o.cutover.Stop()
	o.confine.Stop()
	o.seals.Stop()
	return o.state.Close()
}

// State gives access to changes and warnings.
func (o *Overlord) State() *state.State { return o.state }

// Abort asks an unfinished change to undo what it did.
func (o *Overlord) Abort(id string) error {
	err := o.state.Update(func(tx *state.Tx) error {
		c := tx.Change(id)
		if c == nil {
			return fmt.Errorf("cannot find change with id %q", id)
		}
		if c.Ready() {
			return fmt.Errorf("cannot abort change %s with nothing pending", id)
		}
		c.Abort()
		return nil
	})
	o.runner.Ensure()
	return err
}

// Snaps lists snaps, see recipes.Manager.Snaps, and says whether the kernel
// confines them.
func (o *Overlord) Snaps(ctx context.Context, names []string, all bool) ([]recipes.SnapView, error) {
	views, err := o.Manager.Snaps(ctx, names, all)
	for i := range views {
		views[i].Confined = o.confine.Enforced()
	}
	return views, err
}

// ServiceViews lists services, see servicestate.Manager.Views.
func (o *Overlord) ServiceViews(ctx context.Context, names []string) ([]servicestate.View, error) {
	return o.services.Views(ctx, names)
}

// Track puts the caller's process into a scope, see servicestate.Manager.Track.
func (o *Overlord) Track(ctx context.Context, pid int, snapName, app string) (*servicestate.Tracked, error) {
	return o.services.Track(ctx, pid, snapName, app)
}

// BootID tells which boot of the kernel this is, and which PID 1: a container
// boots without its kernel.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	since, err := osutil.StartTime(1)
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	return fmt.Sprintf("%s-%d", strings.TrimSpace(string(b)), since), nil
}
