// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"endured/snap"
	"endured/systemd"
)

// fdStoreMax is how many descriptors a service that speaks sd_notify may leave
// with systemd over a restart. It is one number for all, so that it never
// shrinks by a refresh: systemd drops descriptors the moment it does.
const fdStoreMax = 128

// GateUnit is the name of the unit that holds the starts of a snap's services
// while its start job runs.
func GateUnit(name string) string { return "snapd-refresh-gate@" + name + ".service" }

func serviceUnit(app *snap.App, o Options) ([]byte, error) {
	env, err := ServiceEnv(app, o)
	if err != nil {
		return nil, err
	}
	service, err := serviceSection(app, env, o)
	if err != nil {
		return nil, err
	}
	confined, err := ConfineOptions(app.Snap, app.Name, app.Unit(), o)
	if err != nil {
		return nil, err
	}
	unit := append(unitOptions(app, has(confined, "AppArmorProfile")), contentOrder(app.Unit(), confined)...)
	u := systemd.Unit{sect("Unit", unit...), sect("Service", append(service, confined...)...)}
	if !app.Activated() {
		u = append(u, sect("Install", opt("WantedBy", "multi-user.target")))
	}
	return u.Bytes()
}

// unitOptions holds what orders the service. Only Requires= binds it, and only
// to its own mount: anything stronger, or a gate that is required, would stop
// a process that is to endure when units are reloaded or the gate goes.
//
// The condition closes the snap while the gate's job is missing in the middle
// of a switch. It is looked at only at the moment of a start.
func unitOptions(app *snap.App, profile bool) []systemd.Option {
	info := app.Snap
	mount := MountUnitName(info.Name, info.Revision)
	after := "network.target"
	if profile {
		after += " " + LoaderUnit
	}
	opts := []systemd.Option{
		opt("Description", "Service for snap application "+info.Name+"."+app.Name),
		opt("X-Snappy", "yes"),
		opt("X-Revision", info.Revision.String()),
		opt("Requires", mount),
		opt("Wants", "network.target"),
		opt("After", mount+" "+after+" "+GateUnit(info.Name)),
	}
	if units := unitsOf(info, app.After); units != "" {
		opts = append(opts, opt("After", units))
	}
	if units := unitsOf(info, app.Before); units != "" {
		opts = append(opts, opt("Before", units))
	}
	if TellsStop(app) {
		opts = append(opts, opt("Before", StopReasonUnit))
	}
	return append(opts, opt("ConditionPathExists", "!"+system().SwitchMark(info.Name)))
}

func unitsOf(info *snap.Info, apps []string) string {
	units := make([]string, len(apps))
	for n, name := range apps {
		units[n] = (&snap.App{Snap: info, Name: name}).Unit()
	}
	return strings.Join(units, " ")
}

func serviceSection(app *snap.App, env []snap.EnvVar, o Options) ([]systemd.Option, error) {
	opts, err := typeOptions(app, env)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct{ directive, key, command string }{
		{"ExecStart", "command", app.Command},
		{"ExecStop", "stop-command", app.StopCommand},
		{"ExecReload", "reload-command", app.ReloadCommand},
		{"ExecStopPost", "post-stop-command", app.PostStopCommand},
	} {
		if c.command == "" && c.key != "command" {
			continue
		}
		line, err := execLine(app, c.command, env)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.key, err)
		}
		opts = append(opts, opt(c.directive, line))
	}
	if TellsStop(app) {
		opts = append(opts, opt("ExecStopPost", consumeLine(app)))
	}
	opts = append(opts, restartOptions(app)...)
	opts = append(opts, stopOptions(app, o)...)
	opts = append(opts, mountOptions(app.Snap)...)
	opts = append(opts, opt("SyslogIdentifier", app.Snap.Name+"."+app.Name))
	// No EnvironmentFile=/etc/environment: systemd lets a file win over
	// Environment=, and the PATH that it sets on many hosts would hide the snap's.
	for _, v := range env {
		line, err := systemd.QuoteEnv(v.Name, v.Value)
		if err != nil {
			return nil, err
		}
		opts = append(opts, opt("Environment", line))
	}
	if TellsStop(app) {
		opts = append(opts, reasonOptions(app)...)
	}
	return opts, nil
}

// serviceType maps daemon: to systemd's Type=. A simple daemon becomes exec,
// so that a command that cannot start is a failed start.
func serviceType(app *snap.App) string {
	if app.Daemon == "simple" {
		return "exec"
	}
	return app.Daemon
}

func typeOptions(app *snap.App, env []snap.EnvVar) ([]systemd.Option, error) {
	opts := []systemd.Option{opt("Type", serviceType(app))}
	switch app.Daemon {
	case "simple":
	case "notify":
		opts = append(opts,
			opt("NotifyAccess", "main"),
			opt("FileDescriptorStoreMax", strconv.Itoa(fdStoreMax)))
	case "forking":
		if app.PIDFile != "" {
			path, err := expandPath(app.PIDFile, env)
			if err != nil {
				return nil, fmt.Errorf("pid-file: %w", err)
			}
			opts = append(opts, opt("PIDFile", systemd.QuoteValue(path)))
		}
	case "oneshot":
		if app.StopCommand != "" {
			opts = append(opts, opt("RemainAfterExit", "yes"))
		}
	case "dbus":
		if app.BusName == "" {
			return nil, fmt.Errorf("daemon: dbus has no bus-name")
		}
		opts = append(opts, opt("BusName", systemd.QuoteValue(app.BusName)))
	default:
		return nil, fmt.Errorf("daemon: %q is not known", app.Daemon)
	}
	return opts, nil
}

func restartOptions(app *snap.App) []systemd.Option {
	restart := app.RestartCondition
	switch {
	case app.Daemon == "oneshot" || restart == "never" || restart == "no":
		restart = "no"
	case restart == "":
		restart = "on-failure"
	}
	opts := []systemd.Option{opt("Restart", restart)}
	if app.RestartDelay > 0 {
		opts = append(opts, opt("RestartSec", timeSpan(app.RestartDelay)))
	}
	if len(app.SuccessExit) > 0 {
		codes := make([]string, len(app.SuccessExit))
		for n, c := range app.SuccessExit {
			codes[n] = strconv.Itoa(c)
		}
		opts = append(opts, opt("SuccessExitStatus", strings.Join(codes, " ")))
	}
	if app.StartTimeout > 0 {
		opts = append(opts, opt("TimeoutStartSec", timeSpan(app.StartTimeout)))
	}
	if app.WatchdogTimeout > 0 {
		opts = append(opts, opt("WatchdogSec", timeSpan(app.WatchdogTimeout)))
	}
	return opts
}

func stopOptions(app *snap.App, o Options) []systemd.Option {
	opts := []systemd.Option{opt("TimeoutStopSec", timeSpan(stopTimeout(app, o)))}
	if sig := app.StopMode.Signal(); sig != "" {
		opts = append(opts, opt("KillSignal", sig))
	}
	if mode := killMode(app); mode != "control-group" {
		opts = append(opts, opt("KillMode", mode))
	}
	if !app.SendSIGKILL {
		opts = append(opts, opt("SendSIGKILL", "no"))
	}
	return opts
}

// stopTimeout is the author's bound, or the default, under the operator's ceiling.
func stopTimeout(app *snap.App, o Options) time.Duration {
	timeout := snap.DefaultStopTimeout
	if app.StopTimeout > 0 {
		timeout = app.StopTimeout
	}
	if o.StopTimeoutMax != nil {
		if ceiling := o.StopTimeoutMax(); ceiling > 0 {
			return min(timeout, ceiling)
		}
	}
	return timeout
}

// killMode is process only where the author asked for it: a stop-mode that
// names a signal without "-all" leaves the workers alone at every stop and
// restart. A refresh-mode never gets here.
func killMode(app *snap.App) string {
	if app.StopMode.All() {
		return "control-group"
	}
	return "process"
}

// mountOptions gives the service mounts of its own: one for the revision's
// data and one for common, so that the data can be sealed alone, and a /tmp
// that systemd does not delete while survivors of an older main use it.
func mountOptions(info *snap.Info) []systemd.Option {
	data := system().Data(info.Name, info.Revision)
	opts := []systemd.Option{opt("WorkingDirectory", data)}
	if !ownMounts(info) {
		return opts
	}
	return append(opts,
		opt("BindPaths", system().PrivateTmp(info.Name)+":/tmp"),
		opt("ReadOnlyPaths", system().AllData()),
		opt("ReadWritePaths", data+" "+system().Common(info.Name)))
}

// expandPath expands the variables of a path that PID 1 uses, and refuses what
// is no plain absolute path afterwards.
func expandPath(path string, env []snap.EnvVar) (string, error) {
	vars := envMap(env)
	missing := ""
	full := os.Expand(path, func(name string) string {
		if vars[name] == "" && missing == "" {
			missing = name
		}
		return vars[name]
	})
	if missing != "" {
		return "", fmt.Errorf("path %q holds the unknown variable %q", path, missing)
	}
	if !filepath.IsAbs(full) || filepath.Clean(full) != full {
		return "", fmt.Errorf("path %q is not a clean absolute path", full)
	}
	return full, nil
}

// timeSpan writes a duration for systemd. What is shorter than a microsecond
// becomes one: 0 would mean "no limit".
func timeSpan(d time.Duration) string {
	switch {
	case d%time.Second == 0:
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	case d%time.Millisecond == 0:
		return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
	}
	return strconv.FormatInt(max(1, int64(d/time.Microsecond)), 10) + "us"
}
