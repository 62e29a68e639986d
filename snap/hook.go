// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"path"
	"slices"
	"sort"

	"gopkg.in/yaml.v3"
)

// The hooks that are run, and when.
const (
	// HookInstall runs once, before the services of a new snap start.
	HookInstall = "install"
	// HookDefaultConfigure runs after HookInstall, likewise.
	HookDefaultConfigure = "default-configure"
	// HookConfigure runs after installing and refreshing, and when options are set.
	HookConfigure = "configure"
	// HookPreRefresh is the old revision's, and runs before anything is touched.
	HookPreRefresh = "pre-refresh"
	// HookPostRefresh is the new revision's, and runs before its services start.
	HookPostRefresh = "post-refresh"
	// HookRemove runs before the snap is removed.
	HookRemove = "remove"
	// HookCheckHealth runs last and tells how the snap is.
	HookCheckHealth = "check-health"
	// HookGateAutoRefresh is to be asked before a refresh that nobody asked for.
	// Its place is where such a refresh is decided upon; until there is one,
	// it is accepted and not run.
	HookGateAutoRefresh = "gate-auto-refresh"
)

// notRun is what is said of HookGateAutoRefresh.
const notRun = "is not run yet: nothing refreshes by itself"

// knownHooks are the hooks that a snap may have, those that do nothing yet last.
func knownHooks() []string {
	return []string{HookInstall, HookConfigure, HookDefaultConfigure, HookPreRefresh, HookPostRefresh, HookRemove,
		HookCheckHealth, HookGateAutoRefresh}
}

// Hook is a program of the snap that runs when something happens to it.
type Hook struct {
	Snap *Info `json:"-"`
	Name string

	CommandChain []string
	Environment  []EnvVar
	Plugs, Slots []string // names, sorted; those that nobody names are in it
}

// Command is the path of the hook's program inside the snap.
func (h *Hook) Command() string { return path.Join(hooksDir, h.Name) }

// SortedHooks returns all hooks by name.
func (i *Info) SortedHooks() []*Hook {
	out := make([]*Hook, 0, len(i.Hooks))
	for _, h := range i.Hooks {
		out = append(out, h)
	}
	sort.Slice(out, func(x, y int) bool { return out[x].Name < out[y].Name })
	return out
}

// hookKeys are the keys of a hook.
var hookKeys = []string{"command-chain", "environment", "plugs", "slots"}

// hook reads an entry of hooks:.
func (d *draft) hook(name, path string, v *yaml.Node) {
	if len(name) > maxIfaceName || !hookNamePattern.MatchString(name) {
		d.bad(path, "%s is not the name of a hook", quote(name))
		return
	}
	if !isNull(v) && v.Kind != yaml.MappingNode {
		d.bad(path, "must be a map, found %s", kindName(v))
		return
	}
	h := &Hook{Snap: d.info, Name: name}
	d.info.Hooks[name] = h
	if why := hookProblem(name); why != "" {
		d.need(path, "%s", why)
	} else if name == HookGateAutoRefresh {
		d.note(path, notRun)
	}
	d.mapping(path, v, func(key, path string, v *yaml.Node) {
		switch key {
		case "command-chain":
			h.CommandChain = d.commandChain(path, v)
		case "environment":
			h.Environment = d.environment(path, v)
		case "plugs":
			d.bind(d.plugs, d.strs(path, v), toHook(name))
		case "slots":
			d.bind(d.slots, d.strs(path, v), toHook(name))
		default:
			d.unknown(path, key, hookKeys)
		}
	})
}

// hookProblem says why a hook is of no use here, "" if it is run.
func hookProblem(name string) string {
	if slices.Contains(knownHooks(), name) {
		return ""
	}
	return "this hook is not run, and the snap may rely on it; there is " + either(knownHooks())
}

// AddHooks adds the hooks that lie in meta/hooks and that snap.yaml does not
// speak of.
func (i *Info) AddHooks(names ...string) {
	for _, n := range names {
		if i.Hooks[n] != nil {
			continue
		}
		h := &Hook{Snap: i, Name: n}
		i.Hooks[n] = h
		for _, p := range i.PlugsOf("hook." + n) {
			p.Hooks = sortedSet(append(p.Hooks, n))
			h.Plugs = append(h.Plugs, p.Name)
		}
		for _, s := range i.SlotsOf("hook." + n) {
			s.Hooks = sortedSet(append(s.Hooks, n))
			h.Slots = append(h.Slots, s.Name)
		}
		if why := hookProblem(n); why != "" {
			i.needs = append(i.needs, Problem{Key: path.Join(hooksDir, n), Message: why})
		} else if n == HookGateAutoRefresh {
			i.Notes = append(i.Notes, path.Join(hooksDir, n)+": "+notRun)
		}
	}
}
