// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"endured/dirs"
	"endured/snap"
	"endured/systemd"
)

// HookRun is one run of a hook.
type HookRun struct {
	ID      string        // tells it from other runs of the same hook; digits
	Env     []snap.EnvVar // besides what every program of the snap gets
	Timeout time.Duration // then it is asked to end
	Grace   time.Duration // and after this it is killed
}

var hookUnit = regexp.MustCompile(`^snap\.([a-z0-9-]+)\.hook\.([a-z0-9-]+)-([0-9]+)\.service$`)

// HookUnitName is the name of the unit that a hook runs as.
func HookUnitName(snapName, hook, id string) string {
	return "snap." + snapName + ".hook." + hook + "-" + id + ".service"
}

// ParseHookUnitName is the inverse of HookUnitName.
func ParseHookUnitName(unit string) (snapName, hook, id string, ok bool) {
	m := hookUnit.FindStringSubmatch(unit)
	if m == nil {
		return "", "", "", false
	}
	return m[1], m[2], m[3], true
}

// HookUnits lists the units of hooks that there are files of.
func HookUnits(d dirs.Dirs) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(d.RunUnits(), "snap.*.hook.*-*.service"))
	if err != nil {
		return nil, fmt.Errorf("cannot list the units of hooks: %w", err)
	}
	for n, p := range paths {
		paths[n] = filepath.Base(p)
	}
	return paths, nil
}

// HookUnit returns the unit of one run of a hook. It lasts for this boot, and
// remembers how the hook ended until it is stopped: a daemon that comes back
// finds out. What confines a service confines a hook in the same way.
func HookUnit(h *snap.Hook, r HookRun, o Options) (File, error) {
	name := HookUnitName(h.Snap.Name, h.Name, r.ID)
	data, err := hookUnitText(h, r, o)
	if err != nil {
		return File{}, fmt.Errorf("cannot generate the unit of hook %q of %q: %w", h.Name, h.Snap.Name, err)
	}
	return File{Path: "/run/systemd/system/" + name, Data: data, Mode: 0o644}, nil
}

// asApp is the hook as if it were an app: commands and environments are made
// of it in the same way.
func asApp(h *snap.Hook) *snap.App {
	return &snap.App{Snap: h.Snap, Name: "hook." + h.Name, Command: h.Command(), CommandChain: h.CommandChain,
		Environment: h.Environment, Plugs: h.Plugs, Slots: h.Slots}
}

func hookUnitText(h *snap.Hook, r HookRun, o Options) ([]byte, error) {
	app := asApp(h)
	env, err := ServiceEnv(app, o)
	if err != nil {
		return nil, err
	}
	line, err := execLine(app, app.Command, env)
	if err != nil {
		return nil, err
	}
	mount := MountUnitName(h.Snap.Name, h.Snap.Revision)
	service := []systemd.Option{
		opt("Type", "oneshot"),
		opt("RemainAfterExit", "yes"),
		opt("ExecStart", line),
		opt("TimeoutStartSec", timeSpan(r.Timeout)),
		opt("TimeoutStopSec", timeSpan(r.Grace)),
	}
	service = append(service, mountOptions(h.Snap)...)
	service = append(service,
		opt("StandardOutput", "journal"),
		opt("StandardError", "journal"),
		opt("SyslogIdentifier", h.Snap.Name+".hook."+h.Name))
	for _, v := range append(env, r.Env...) {
		line, err := systemd.QuoteEnv(v.Name, v.Value)
		if err != nil {
			return nil, err
		}
		service = append(service, opt("Environment", line))
	}
	unit := HookUnitName(h.Snap.Name, h.Name, r.ID)
	confined, err := ConfineOptions(h.Snap, app.Name, unit, o)
	if err != nil {
		return nil, err
	}
	service = append(service, confined...)
	order := append([]systemd.Option{
		opt("Description", "Hook "+h.Name+" of snap "+h.Snap.Name),
		opt("X-Snappy", "yes"),
		opt("X-Revision", h.Snap.Revision.String()),
		opt("Requires", mount),
		opt("After", mount),
	}, contentOrder(unit, confined)...)
	return systemd.Unit{sect("Unit", order...), sect("Service", service...)}.Bytes()
}
