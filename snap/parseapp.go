// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

var (
	commandPattern = regexp.MustCompile(`^[A-Za-z0-9/. _#:$-]*$`)
	chainPattern   = regexp.MustCompile(`^[A-Za-z0-9/._#:$-]*$`)
)

// appKeys are the keys of an app.
var appKeys = []string{
	"activates-on", "adapter", "after", "aliases", "autostart", "before", "bus-name", "command", "command-chain", "common-id",
	"completer", "daemon", "daemon-scope", "desktop", "environment", "install-mode", "pid-file", "plugs", "post-stop-command",
	"refresh-mode", "reload-command", "restart-condition", "restart-delay", "send-sigkill", "slots", "sockets", "start-timeout",
	"stop-command", "stop-mode", "stop-timeout", "success-exit-status", "timer", "watchdog-timeout",
}

// serviceKeys are the keys that make no sense without daemon:.
var serviceKeys = []string{
	"activates-on", "after", "before", "daemon-scope", "install-mode", "pid-file", "restart-condition", "restart-delay", "send-sigkill",
	"sockets", "start-timeout", "stop-mode", "stop-timeout", "success-exit-status", "timer", "watchdog-timeout",
}

// noEffect are the keys of an app that are accepted and do nothing yet.
var noEffect = []string{"aliases", "autostart", "completer"}

// appDraft is an App in the making.
type appDraft struct {
	*App
	path  string
	scope string
	set   []string // the keys that have content, in the author's order
}

func (d *draft) app(name, path string, v *yaml.Node) {
	if err := CheckAppName(name); err != nil {
		d.bad(path, "%s", err)
		return
	}
	if len(d.apps) == maxApps {
		d.bad(path, "is one too many; at most %d apps are allowed", maxApps)
		return
	}
	a := &appDraft{App: &App{Snap: d.info, Name: name, SendSIGKILL: true}, path: path}
	d.apps = append(d.apps, a)
	d.info.Apps[name] = a.App
	d.mapping(path, v, func(key, path string, v *yaml.Node) {
		if !slices.Contains(appKeys, key) {
			d.unknown(path, key, appKeys)
			return
		}
		if !isNull(v) && (v.Kind != yaml.ScalarNode || v.Value != "") {
			a.set = append(a.set, key)
		}
		if slices.Contains(noEffect, key) {
			d.note(path, "has no effect yet")
		}
		d.appCommandKey(a, key, path, v)
		d.appServiceKey(a, key, path, v)
	})
}

// appCommandKey reads the keys that say what an app is.
func (d *draft) appCommandKey(a *appDraft, key, path string, v *yaml.Node) {
	switch key {
	case "command":
		a.Command = d.command(path, v)
	case "stop-command":
		a.StopCommand = d.command(path, v)
	case "reload-command":
		a.ReloadCommand = d.command(path, v)
	case "post-stop-command":
		a.PostStopCommand = d.command(path, v)
	case "command-chain":
		a.CommandChain = d.commandChain(path, v)
	case "environment":
		a.Environment = d.environment(path, v)
	case "plugs":
		d.bind(d.plugs, d.strs(path, v), toApp(a.Name))
	case "slots":
		d.bind(d.slots, d.strs(path, v), toApp(a.Name))
	case "pid-file":
		a.PIDFile, _ = d.str(path, v)
	case "bus-name":
		a.BusName, _ = d.str(path, v)
	case "before":
		a.Before = d.strs(path, v)
	case "after":
		a.After = d.strs(path, v)
	case "activates-on":
		a.ActivatesOn = d.strs(path, v)
	case "sockets":
		d.mapping(path, v, func(key, path string, v *yaml.Node) { d.socket(a, key, path, v) })
	}
}

// appServiceKey reads the keys that say how a service lives.
func (d *draft) appServiceKey(a *appDraft, key, path string, v *yaml.Node) {
	switch key {
	case "daemon":
		a.Daemon = d.word(path, v, "simple", "forking", "oneshot", "dbus", "notify")
	case "daemon-scope":
		a.scope = d.word(path, v, "system", "user")
	case "refresh-mode":
		s, _ := d.str(path, v)
		a.RefreshMode = RefreshMode(s)
	case "stop-mode":
		a.StopMode = StopMode(d.word(path, v, stopModes()...))
	case "install-mode":
		a.InstallMode = d.word(path, v, "enable", "disable")
	case "restart-condition":
		a.RestartCondition = d.word(path, v, "no", "never", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog", "always")
		if a.RestartCondition == "no" {
			a.RestartCondition = "never"
		}
	case "send-sigkill":
		a.SendSIGKILL = d.boolean(path, v, true)
	case "start-timeout":
		a.StartTimeout = d.duration(path, v)
	case "stop-timeout":
		a.StopTimeout = d.duration(path, v)
	case "watchdog-timeout":
		a.WatchdogTimeout = d.duration(path, v)
	case "restart-delay":
		a.RestartDelay = d.duration(path, v)
	case "success-exit-status":
		a.SuccessExit = d.exitStatus(path, v)
	case "timer":
		a.Timer, _ = d.str(path, v)
		if err := CheckTimer(a.Timer); a.Timer != "" && err != nil {
			d.bad(path, "%s", err)
		}
	}
}

// command reads a command line: its first word is a path inside the snap.
func (d *draft) command(path string, v *yaml.Node) string {
	s, ok := d.str(path, v)
	if !ok || s == "" {
		return ""
	}
	if !commandPattern.MatchString(s) {
		d.bad(path, "%s holds a character that is not allowed; use letters, digits, spaces and /._#:$-", quote(s))
		return ""
	}
	if len(s) > maxCommand {
		d.bad(path, "has %d bytes; at most %d are allowed", len(s), maxCommand)
		return ""
	}
	if err := checkInside(firstWord(s)); err != nil {
		d.bad(path, "%s", err)
		return ""
	}
	return s
}

func (d *draft) commandChain(path string, v *yaml.Node) []string {
	list := d.strs(path, v)
	for n, s := range list {
		sub := fmt.Sprintf("%s[%d]", path, n)
		if !chainPattern.MatchString(s) {
			d.bad(sub, "%s holds a character that is not allowed; use letters, digits and /._#:$-", quote(s))
		} else if err := checkInside(s); err != nil {
			d.bad(sub, "%s", err)
		}
	}
	return list
}

func firstWord(command string) string {
	word, _, _ := strings.Cut(command, " ")
	return word
}

// checkInside tells why p cannot be the path of a file inside the snap.
func checkInside(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("must begin with the path of a file inside the snap, not with a space")
	case strings.HasPrefix(p, "/"):
		return fmt.Errorf("%s is an absolute path; a command is given relative to the snap", quote(p))
	case strings.HasPrefix(p, "$"):
		return fmt.Errorf("%s begins with a variable; a command is given relative to the snap, without $SNAP", quote(p))
	case slices.Contains(strings.Split(p, "/"), ".."):
		return fmt.Errorf("%s must not contain \"..\"", quote(p))
	case path.Clean(p) == "." || strings.HasSuffix(p, "/"):
		return fmt.Errorf("%s is not the path of a file", quote(p))
	case len(p) > 1024:
		return fmt.Errorf("%s is too long for a path", quote(p))
	}
	return nil
}

func (d *draft) exitStatus(path string, v *yaml.Node) []int {
	var out []int
	for _, s := range d.strs(path, v) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 255 {
			d.bad(path, "%s is not an exit status; use 1 to 255", quote(s))
			return nil
		}
		out = append(out, n)
	}
	return out
}

// finishApp checks an app by itself once all of it, and the snap's name and
// plugs, are known.
func (d *draft) finishApp(a *appDraft) {
	if a.Command == "" && !d.complained(join(a.path, "command")) {
		d.bad(join(a.path, "command"), "is missing; every app has a command")
	}
	// What a daemon: that is not understood was meant to be is a service.
	service := a.IsService() || d.complained(join(a.path, "daemon"))
	for _, key := range a.set {
		if !service && slices.Contains(serviceKeys, key) {
			d.bad(join(a.path, key), "is for services only, and %s has no daemon:", quote(a.Name))
		}
	}
	if !service {
		for _, key := range []string{"stop-command", "reload-command", "post-stop-command"} {
			if slices.Contains(a.set, key) {
				d.note(join(a.path, key), "has no effect without daemon:")
			}
		}
	}
	d.checkModes(a, service)
	d.checkPIDFile(a)
	for _, s := range a.Sockets {
		d.checkSocket(a, s)
	}
	if len(a.Sockets) > 0 && d.info.Confinement != "classic" && !d.mayBind(a) {
		d.bad(join(a.path, "sockets"), "needs the plug network-bind in %s", join(a.path, "plugs"))
	}
	if a.BusName != "" && (len(a.BusName) > 255 || !busNamePattern.MatchString(a.BusName)) {
		d.bad(join(a.path, "bus-name"), "%s is not a D-Bus name such as org.example.Daemon", quote(a.BusName))
	}
}

// complained tells whether something is already known to be wrong with a key.
func (d *draft) complained(key string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Key == key })
}

func (d *draft) mayBind(a *appDraft) bool {
	return slices.ContainsFunc(a.Plugs, func(n string) bool { return d.plugs[n].Interface == "network-bind" })
}

func (d *draft) checkModes(a *appDraft, service bool) {
	key := join(a.path, "refresh-mode")
	switch m := a.RefreshMode; {
	case m == "":
	case !slices.Contains(refreshModes(), string(m)):
		d.bad(key, "%s is not allowed; use %s", quote(string(m)), either(allowedRefreshModes(service)))
	case service && m == "ignore-running":
		d.bad(key, "\"ignore-running\" is for apps that are not services; use %s", either(allowedRefreshModes(true)))
	case !service && m != "ignore-running":
		d.bad(key, "%s is for services; an app without daemon: may only have \"ignore-running\"", quote(string(m)))
	case m == "ignore-running":
		d.note(key, "\"ignore-running\" has no effect: a refresh never stops or waits for an app that is not a service")
	}
	if a.Daemon != "forking" || a.PIDFile != "" {
		return
	}
	const why = "%s signals the main process, and of a forking daemon that is only known with pid-file: (or use %s)"
	if a.RefreshMode.Signal() != "" && !a.RefreshMode.All() {
		d.bad(key, why, quote(string(a.RefreshMode)), string(a.RefreshMode)+"-all")
	}
	if a.StopMode.Signal() != "" && !a.StopMode.All() {
		d.bad(join(a.path, "stop-mode"), why, quote(string(a.StopMode)), string(a.StopMode)+"-all")
	}
}

func (d *draft) checkPIDFile(a *appDraft) {
	key := join(a.path, "pid-file")
	switch p := a.PIDFile; {
	case p == "":
	case a.Daemon != "" && a.Daemon != "forking":
		d.bad(key, "is for \"daemon: forking\" only, found \"daemon: %s\"", a.Daemon)
	case len(p) > 1024 || path.Clean(p) != p || strings.ContainsAny(p, " \"'\\%;"):
		d.bad(key, "%s is not a plain path", quote(p))
	default:
		if inOne(p, "$SNAP_DATA/", "$SNAP_COMMON/", "/run/snap."+d.info.Name+"/") {
			return
		}
		d.bad(key, "%s is not allowed; use a path under $SNAP_DATA/, $SNAP_COMMON/ or /run/snap.%s/", quote(p), d.info.Name)
	}
}

// inOne tells whether p lies under one of the prefixes and names no other variable.
func inOne(p string, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if rest, ok := strings.CutPrefix(p, prefix); ok && rest != "" && !strings.Contains(rest, "$") {
			return true
		}
	}
	return false
}
