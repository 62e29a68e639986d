// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"context"
	"log/slog"

	"endured/dirs"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// Systemd is what this package needs of PID 1.
type Systemd interface {
	Start(ctx context.Context, unit, mode string) (*systemd.Job, error)
	Run(ctx context.Context, verb, unit, mode string) error
	Reload(ctx context.Context) error
	Enable(ctx context.Context, units ...string) (bool, error)
	Disable(ctx context.Context, units ...string) (bool, error)
	ResetFailed(ctx context.Context, unit string) error
	Status(ctx context.Context, units ...string) ([]systemd.UnitStatus, error)
	Glance(ctx context.Context, units ...string) ([]systemd.UnitStatus, error)
	ListUnits(ctx context.Context, patterns ...string) ([]systemd.UnitStatus, error)
	WaitUnit(ctx context.Context, unit string, ok func(systemd.UnitStatus) bool) (systemd.UnitStatus, error)
	StartTransientScope(ctx context.Context, s systemd.ScopeSpec) (*systemd.Job, error)
}

// Asker ends services that must not be killed, and bounds the end of scopes;
// see cutover.Manager.Ask and Bound.
type Asker interface {
	Ask(ctx context.Context, snapName string, s lifecycle.Step, a *snap.App, watch bool) error
	Bound(ctx context.Context, g lifecycle.GenerationStep) (done func())
}

// Bus reads its configuration anew, see cutover.Manager.ReloadBus.
type Bus interface {
	ReloadBus(ctx context.Context) error
}

// Config is what a Manager is made of.
type Config struct {
	Dirs    dirs.Dirs
	State   *state.State
	Systemd Systemd
	Snaps   *snapstate.Manager
	Asker   Asker
	Bus     Bus
	Log     *slog.Logger
	Wrap    wrappers.Options
	BootID  string
	// Unsealable says why what an app was given keeps a seal from being whole,
	// a clause each.
	Unsealable func(info *snap.Info, app string) []string
}

// Manager observes services and runs the tasks "plan-services" and
// "control-services".
type Manager struct{ Config }

// New makes a Manager and registers its tasks with the runner.
func New(c Config, run *state.Runner) *Manager {
	m := &Manager{Config: c}
	run.AddHandler("plan-services", m.doPlan, nil)
	run.AddHandler("control-services", m.doControl, nil)
	return m
}
