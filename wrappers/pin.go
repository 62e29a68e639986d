// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"time"

	"endured/snap"
)

// Stop is the stop side of a service: what systemd reads at the time it stops
// the service or at a reload, and applies to whatever process is there then.
type Stop struct {
	Type    string // systemd's Type=
	BusName string // of Type=dbus only
	// NotifyAccess is "main" or "none": whether the process may still speak.
	NotifyAccess string
	FDStoreMax   int

	KillSignal  string // "SIGTERM", …
	KillMode    string // "control-group" or "process"
	SendSIGKILL bool
	SendSIGHUP  bool
	Timeout     time.Duration // TimeoutStopSec=

	ExecStop, ExecStopPost string // the Exec lines, "" if there is no such command
	Mount                  string // the unit that mounts the revision
}

// StopSide returns the stop side of a service as its revision declares it.
func StopSide(app *snap.App, o Options) (Stop, error) {
	s := Stop{
		Type: serviceType(app), NotifyAccess: "none",
		KillSignal: "SIGTERM", KillMode: killMode(app), SendSIGKILL: app.SendSIGKILL, Timeout: stopTimeout(app),
		Mount: MountUnitName(app.Snap.Name, app.Snap.Revision),
	}
	if app.Daemon == "dbus" {
		s.BusName = app.BusName
	}
	if sig := app.StopMode.Signal(); sig != "" {
		s.KillSignal = sig
	}
	if app.Daemon == "notify" {
		s.FDStoreMax = fdStoreMax
	}
	if app.Daemon == "notify" || app.WatchdogTimeout > 0 {
		s.NotifyAccess = "main"
	}
	env, err := ServiceEnv(app, o)
	if err != nil {
		return Stop{}, err
	}
	for _, c := range []struct {
		command string
		line    *string
	}{{app.StopCommand, &s.ExecStop}, {app.PostStopCommand, &s.ExecStopPost}} {
		if c.command == "" {
			continue
		}
		if *c.line, err = execLine(app, c.command, env); err != nil {
			return Stop{}, err
		}
	}
	return s, nil
}

// PinPath is where the pin of a service's unit is written, as the system sees it.
func PinPath(unit string) string {
	return filepath.Join(system().RunUnits(), unit+".d", "50-snapd-pin.conf")
}

// Pin returns the drop-in that keeps the stop side of the revision old for a
// process of it once the units of the revision new are loaded. It holds only
// what differs, and never what a start reads, such as Environment= or mounts:
// the drop-in is still there if the new main crashes and is started again.
//
// A drop-in for two different revisions always orders the process before its
// own mount at shutdown. needed tells whether it holds more than that: a
// process that stays wants the drop-in in either case, one that is about to be
// restarted only if it is needed. data is nil if old and new are one revision.
// It is an error if either lacks the service.
func Pin(old, new *snap.Info, app string, o Options) (data []byte, needed bool, err error) {
	fail := func(err error) ([]byte, bool, error) {
		return nil, false, fmt.Errorf("cannot pin the stop side of %q: %w", old.Name+"."+app, err)
	}
	was, is := old.Apps[app], new.Apps[app]
	if was == nil || is == nil || !was.IsService() || !is.IsService() {
		return fail(fmt.Errorf("revisions %s and %s do not both have this service", old.Revision, new.Revision))
	}
	if old.Revision == new.Revision {
		return nil, false, nil
	}
	a, err := StopSide(was, o)
	if err != nil {
		return fail(err)
	}
	b, err := StopSide(is, o)
	if err != nil {
		return fail(err)
	}
	opts := pinOptions(a, b)
	stops, err := pinCommands(was, is, a, b, o)
	if err != nil {
		return fail(err)
	}
	opts = append(opts, stops...)
	u := unit{{"Unit", []option{{"X-Revision", old.Revision.String()}, {"After", a.Mount}}}}
	if len(opts) > 0 {
		u = append(u, section{"Service", opts})
	}
	if data, err = u.marshal(); err != nil {
		return fail(err)
	}
	return data, len(opts) > 0, nil
}

// pinOptions returns the plain directives of a that b changes.
func pinOptions(a, b Stop) []option {
	var opts []option
	keep := func(name, was, is string) {
		if was != is {
			opts = append(opts, option{name, was})
		}
	}
	// Type=dbus stops a main that does not own the name. No other type touches
	// a process that runs, and a pinned one would mislead the new main.
	if b.Type == "dbus" {
		keep("Type", a.Type, b.Type)
		if a.Type == "dbus" {
			keep("BusName", a.BusName, b.BusName)
		}
	}
	if a.NotifyAccess == "main" {
		keep("NotifyAccess", a.NotifyAccess, b.NotifyAccess)
	}
	if a.FDStoreMax > b.FDStoreMax {
		keep("FileDescriptorStoreMax", strconv.Itoa(a.FDStoreMax), strconv.Itoa(b.FDStoreMax))
	}
	keep("KillSignal", a.KillSignal, b.KillSignal)
	keep("KillMode", a.KillMode, b.KillMode)
	keep("SendSIGKILL", yesNo(a.SendSIGKILL), yesNo(b.SendSIGKILL))
	keep("SendSIGHUP", yesNo(a.SendSIGHUP), yesNo(b.SendSIGHUP))
	keep("TimeoutStopSec", timeSpan(a.Timeout), timeSpan(b.Timeout))
	return opts
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// pinCommands returns the old commands in place of the new ones, each with the
// environment and the directory of its own revision.
func pinCommands(was, is *snap.App, a, b Stop, o Options) ([]option, error) {
	var opts []option
	prefix := ""
	for _, c := range []struct{ name, was, is string }{
		{"ExecStop", a.ExecStop, b.ExecStop},
		{"ExecStopPost", a.ExecStopPost, b.ExecStopPost},
	} {
		if c.was == c.is {
			continue
		}
		if c.is != "" {
			opts = append(opts, option{c.name, ""})
		}
		if c.was == "" {
			continue
		}
		if prefix == "" {
			var err error
			if prefix, err = envPrefix(was, is, o); err != nil {
				return nil, err
			}
		}
		opts = append(opts, option{c.name, prefix + c.was})
	}
	return opts, nil
}

// envPrefix returns a call of env(1) that turns the environment and directory
// of is, which systemd provides, into those of was. What systemd adds by
// itself, such as $MAINPID and $SERVICE_RESULT, gets through.
func envPrefix(was, is *snap.App, o Options) (string, error) {
	old, err := ServiceEnv(was, o)
	if err != nil {
		return "", err
	}
	new, err := ServiceEnv(is, o)
	if err != nil {
		return "", err
	}
	line := "/usr/bin/env " + quoteExec("--chdir="+system().Data(was.Snap.Name, was.Snap.Revision))
	have, want := envMap(new), envMap(old)
	var extra []string
	for name := range have {
		if _, ok := want[name]; !ok {
			extra = append(extra, name)
		}
	}
	sort.Strings(extra)
	for _, name := range extra {
		line += " " + quoteExec("--unset="+name)
	}
	for _, v := range old {
		if value, ok := have[v.Name]; !ok || value != v.Value {
			line += " " + quoteExec(v.Name+"="+v.Value)
		}
	}
	return line + " ", nil
}
