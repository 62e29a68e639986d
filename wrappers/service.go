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
)

// fdStoreMax is how many descriptors a service that speaks sd_notify may leave
// with systemd over a restart. It is one number for all, so that it never
// shrinks by a refresh: systemd drops descriptors the moment it does.
const fdStoreMax = 128

// gateUnit holds every start of a snap's services during its switch.
func gateUnit(name string) string { return "snapd-refresh-gate@" + name + ".service" }

// GateUnit is the name of the unit that holds the starts of a snap's services.
func GateUnit(name string) string { return gateUnit(name) }

func serviceUnit(app *snap.App, o Options) ([]byte, error) {
	env, err := ServiceEnv(app, o)
	if err != nil {
		return nil, err
	}
	service, err := serviceSection(app, env)
	if err != nil {
		return nil, err
	}
	u := unit{{"Unit", unitOptions(app)}, {"Service", service}}
	if !app.Activated() {
		u = append(u, section{"Install", []option{{"WantedBy", "multi-user.target"}}})
	}
	return u.marshal()
}

// unitOptions holds what orders the service. Only Requires= binds it, and only
// to its own mount: anything stronger, or a gate that is required, would stop
// a process that is to endure when units are reloaded or the gate goes.
func unitOptions(app *snap.App) []option {
	info := app.Snap
	mount := MountUnitName(info.Name, info.Revision)
	opts := []option{
		{"Description", "Service for snap application " + info.Name + "." + app.Name},
		{"X-Snappy", "yes"},
		{"X-Revision", info.Revision.String()},
		{"Requires", mount},
		{"Wants", "network.target"},
		{"After", mount + " network.target " + gateUnit(info.Name)},
	}
	if units := unitsOf(info, app.After); units != "" {
		opts = append(opts, option{"After", units})
	}
	if units := unitsOf(info, app.Before); units != "" {
		opts = append(opts, option{"Before", units})
	}
	return opts
}

func unitsOf(info *snap.Info, apps []string) string {
	units := make([]string, len(apps))
	for n, name := range apps {
		units[n] = (&snap.App{Snap: info, Name: name}).Unit()
	}
	return strings.Join(units, " ")
}

func serviceSection(app *snap.App, env []snap.EnvVar) ([]option, error) {
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
		opts = append(opts, option{c.directive, line})
	}
	opts = append(opts, restartOptions(app)...)
	opts = append(opts, stopOptions(app)...)
	opts = append(opts, mountOptions(app.Snap)...)
	opts = append(opts,
		option{"SyslogIdentifier", app.Snap.Name + "." + app.Name},
		option{"EnvironmentFile", "-/etc/environment"})
	for _, v := range env {
		opts = append(opts, option{"Environment", quoteValue(v.Name + "=" + v.Value)})
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

func typeOptions(app *snap.App, env []snap.EnvVar) ([]option, error) {
	opts := []option{{"Type", serviceType(app)}}
	switch app.Daemon {
	case "simple":
	case "notify":
		opts = append(opts,
			option{"NotifyAccess", "main"},
			option{"FileDescriptorStoreMax", strconv.Itoa(fdStoreMax)})
	case "forking":
		if app.PIDFile != "" {
			path, err := expandPath(app.PIDFile, env)
			if err != nil {
				return nil, fmt.Errorf("pid-file: %w", err)
			}
			opts = append(opts, option{"PIDFile", strings.ReplaceAll(path, "%", "%%")})
		}
	case "oneshot":
		if app.StopCommand != "" {
			opts = append(opts, option{"RemainAfterExit", "yes"})
		}
	case "dbus":
		if app.BusName == "" {
			return nil, fmt.Errorf("daemon: dbus has no bus-name")
		}
		opts = append(opts, option{"BusName", strings.ReplaceAll(app.BusName, "%", "%%")})
	default:
		return nil, fmt.Errorf("daemon: %q is not known", app.Daemon)
	}
	return opts, nil
}

func restartOptions(app *snap.App) []option {
	restart := app.RestartCondition
	switch {
	case app.Daemon == "oneshot" || restart == "never" || restart == "no":
		restart = "no"
	case restart == "":
		restart = "on-failure"
	}
	opts := []option{{"Restart", restart}}
	if app.RestartDelay > 0 {
		opts = append(opts, option{"RestartSec", timeSpan(app.RestartDelay)})
	}
	if len(app.SuccessExit) > 0 {
		codes := make([]string, len(app.SuccessExit))
		for n, c := range app.SuccessExit {
			codes[n] = strconv.Itoa(c)
		}
		opts = append(opts, option{"SuccessExitStatus", strings.Join(codes, " ")})
	}
	if app.StartTimeout > 0 {
		opts = append(opts, option{"TimeoutStartSec", timeSpan(app.StartTimeout)})
	}
	if app.WatchdogTimeout > 0 {
		opts = append(opts, option{"WatchdogSec", timeSpan(app.WatchdogTimeout)})
	}
	return opts
}

func stopOptions(app *snap.App) []option {
	opts := []option{{"TimeoutStopSec", timeSpan(stopTimeout(app))}}
	if sig := app.StopMode.Signal(); sig != "" {
		opts = append(opts, option{"KillSignal", sig})
	}
	if mode := killMode(app); mode != "control-group" {
		opts = append(opts, option{"KillMode", mode})
	}
	if !app.SendSIGKILL {
		opts = append(opts, option{"SendSIGKILL", "no"})
	}
	return opts
}

func stopTimeout(app *snap.App) time.Duration {
	if app.StopTimeout > 0 {
		return app.StopTimeout
	}
	return snap.DefaultStopTimeout
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
func mountOptions(info *snap.Info) []option {
	data := system().Data(info.Name, info.Revision)
	opts := []option{{"WorkingDirectory", data}}
	if !ownMounts(info) {
		return opts
	}
	return append(opts,
		option{"BindPaths", system().PrivateTmp(info.Name) + ":/tmp"},
		option{"ReadOnlyPaths", system().AllData()},
		option{"ReadWritePaths", data + " " + system().Common(info.Name)})
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
