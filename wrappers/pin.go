// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"time"

	"endured/dirs"
	"endured/snap"
	"endured/systemd"
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
	Consume                string // the ExecStopPost= that follows, "" if there is neither
	Mount                  string // the unit that mounts the revision
}

// StopSide returns the stop side of a service as its revision declares it.
func StopSide(app *snap.App, o Options) (Stop, error) {
	s := Stop{
		Type: serviceType(app), NotifyAccess: "none",
		KillSignal: "SIGTERM", KillMode: killMode(app), SendSIGKILL: app.SendSIGKILL, Timeout: stopTimeout(app, o),
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
	if TellsStop(app) {
		s.Consume = consumeLine(app)
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

// PinPath is where the pin of a service's unit is written, below the root.
func PinPath(d dirs.Dirs, unit string) string {
	return filepath.Join(d.RunUnits(), unit+".d", "50-snapd-pin.conf")
}

// Pin returns the drop-in that keeps the stop side of the revision old for a
// process of it once the units of the revision new are loaded. It holds only
// what differs, and never what a start reads, such as Environment= or mounts:
// the drop-in is still there if the new main crashes and is started again.
//
// Between two different revisions a pin is always needed by a process that
// stays, if only to order it before its own mount at shutdown. For a process
// that is about to be restarted see StopDiffers. data is nil if old and new are
// one revision. It is an error if either lacks the service.
func Pin(old, new *snap.Info, app string, o Options) (data []byte, needed bool, err error) {
	if old.Revision == new.Revision {
		return nil, false, nil
	}
	mount, opts, err := pinned(old, new, app, o)
	if err == nil {
		order := []systemd.Option{opt("X-Revision", old.Revision.String()), opt("After", mount)}
		if TellsStop(old.Apps[app]) && !TellsStop(new.Apps[app]) {
			order = append(order, opt("Before", StopReasonUnit))
		}
		u := systemd.Unit{sect("Unit", order...)}
		if len(opts) > 0 {
			u = append(u, sect("Service", opts...))
		}
		data, err = u.Bytes()
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot pin the stop side of %q: %w", old.Name+"."+app, err)
	}
	return data, true, nil
}

// StopDiffers tells whether a stop of a process of the revision old would go
// otherwise under the units of the revision new. A service that is restarted
// wants a pin only then; the pin has to be gone, and systemd reloaded, before
// the new main starts.
func StopDiffers(old, new *snap.Info, app string, o Options) (bool, error) {
	_, opts, err := pinned(old, new, app, o)
	if err != nil {
		return false, fmt.Errorf("cannot compare the stop side of %q: %w", old.Name+"."+app, err)
	}
	return len(opts) > 0, nil
}

// pinned returns the old revision's mount unit and the service directives that
// differ, as old has them.
func pinned(old, new *snap.Info, app string, o Options) (mount string, opts []systemd.Option, err error) {
	was, is := old.Apps[app], new.Apps[app]
	if was == nil || is == nil || !was.IsService() || !is.IsService() {
		return "", nil, fmt.Errorf("revisions %s and %s do not both have this service", old.Revision, new.Revision)
	}
	a, err := StopSide(was, o)
	if err != nil {
		return "", nil, err
	}
	b, err := StopSide(is, o)
	if err != nil {
		return "", nil, err
	}
	stops, err := pinCommands(was, is, a, b, o)
	return a.Mount, append(pinOptions(a, b), stops...), err
}

// pinOptions returns the plain directives of a that b changes.
func pinOptions(a, b Stop) []systemd.Option {
	var opts []systemd.Option
	keep := func(name, was, is string) {
		if was != is {
			opts = append(opts, opt(name, was))
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
func pinCommands(was, is *snap.App, a, b Stop, o Options) ([]systemd.Option, error) {
	var opts []systemd.Option
	prefix := ""
	for _, c := range []struct{ name, was, is, then, thenIs string }{
		{"ExecStop", a.ExecStop, b.ExecStop, "", ""},
		{"ExecStopPost", a.ExecStopPost, b.ExecStopPost, a.Consume, b.Consume},
	} {
		if c.was == c.is && c.then == c.thenIs {
			continue
		}
		if c.is != "" || c.thenIs != "" {
			opts = append(opts, opt(c.name, ""))
		}
		if c.was != "" {
			if prefix == "" {
				var err error
				if prefix, err = envPrefix(was, is, o); err != nil {
					return nil, err
				}
			}
			opts = append(opts, opt(c.name, prefix+c.was))
		}
		if c.then != "" {
			opts = append(opts, opt(c.name, c.then))
		}
	}
	if a.Consume != "" && b.Consume == "" {
		// a new main that crashes while its predecessor's pin is there has them too, and does not mind
		opts = append(opts, reasonOptions(was)...)
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
	args := []string{"/usr/bin/env", "--chdir=" + system().Data(was.Snap.Name, was.Snap.Revision)}
	have, want := envMap(new), envMap(old)
	var extra []string
	for name := range have {
		if _, ok := want[name]; !ok {
			extra = append(extra, name)
		}
	}
	sort.Strings(extra)
	for _, name := range extra {
		args = append(args, "--unset="+name)
	}
	for _, v := range old {
		if value, ok := have[v.Name]; !ok || value != v.Value {
			args = append(args, v.Name+"="+v.Value)
		}
	}
	line, err := systemd.QuoteExec(args)
	return line + " ", err
}
