// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Plug is one entry of plugs:, or a name that an app or a hook uses as one. It
// asks for what slots of its interface offer.
type Plug struct {
	Snap      *Info `json:"-"`
	Name      string
	Interface string // the name of the plug, unless the author gave one
	Label     string // for people
	Attrs     Attrs  // what the author wrote; nil if nothing
	// Apps and Hooks are the names of those that the plug is for, sorted. One
	// that none of them names is for all, also for hooks found later.
	Apps, Hooks []string
	Unscoped    bool // none of the apps and hooks names it
}

// Slot is one entry of slots:, or a name that an app or a hook uses as one. Its
// fields are those of Plug.
type Slot Plug

// String returns "SNAP:PLUG".
func (p *Plug) String() string { return p.Snap.Name + ":" + p.Name }

// String returns "SNAP:SLOT".
func (s *Slot) String() string { return s.Snap.Name + ":" + s.Name }

// Serves tells whether the plug is for an app, or for a hook, which is called
// "hook.NAME" here.
func (p *Plug) Serves(appOrHook string) bool {
	if hook, ok := strings.CutPrefix(appOrHook, "hook."); ok {
		return p.Unscoped || slices.Contains(p.Hooks, hook)
	}
	return slices.Contains(p.Apps, appOrHook)
}

// Serves tells whether the slot is offered by an app or by "hook.NAME".
func (s *Slot) Serves(appOrHook string) bool { return (*Plug)(s).Serves(appOrHook) }

// PlugsOf returns the plugs of an app, or of "hook.NAME", by name.
func (i *Info) PlugsOf(appOrHook string) []*Plug {
	var out []*Plug
	for _, name := range slices.Sorted(maps.Keys(i.Plugs)) {
		if p := i.Plugs[name]; p.Serves(appOrHook) {
			out = append(out, p)
		}
	}
	return out
}

// SlotsOf returns the slots of an app, or of "hook.NAME", by name.
func (i *Info) SlotsOf(appOrHook string) []*Slot {
	var out []*Slot
	for _, name := range slices.Sorted(maps.Keys(i.Slots)) {
		if s := i.Slots[name]; s.Serves(appOrHook) {
			out = append(out, s)
		}
	}
	return out
}

// Attrs are the attributes of a plug or a slot: string, bool, int64, float64,
// []any and map[string]any. No string holds a control character.
type Attrs map[string]any

// String returns the attribute, "" if it is not set. It is an error if it is no string.
func (a Attrs) String(key string) (string, error) {
	switch v := a[key].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	default:
		return "", fmt.Errorf("attribute %q must be a string, found %v", key, v)
	}
}

// Strings returns a list of strings, nil if it is not set.
func (a Attrs) Strings(key string) ([]string, error) {
	switch v := a[key].(type) {
	case nil:
		return nil, nil
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("attribute %q must be a list of strings, found %v in it", key, e)
			}
			out = append(out, s)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("attribute %q must be a list of strings, found %v", key, v)
	}
}

// Bool returns true or false, false if it is not set.
func (a Attrs) Bool(key string) (bool, error) {
	switch v := a[key].(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	default:
		return false, fmt.Errorf("attribute %q must be true or false, found %v", key, v)
	}
}

var attrNamePattern = regexp.MustCompile(`^[A-Za-z](-?[A-Za-z0-9_.])*$`)

func (d *draft) plugsAt(path string) map[string]*Plug {
	if strings.HasPrefix(path, "slots.") {
		return d.slots
	}
	return d.plugs
}

// bind makes the named plugs (or slots) those of an app or a hook. A name that
// the author does not describe is that of an interface, too.
func (d *draft) bind(in map[string]*Plug, names []string, to func(*Plug)) {
	for _, n := range names {
		if in[n] == nil {
			if len(in) >= maxPlugs {
				d.bad("apps", "there are more than %d plugs or slots", maxPlugs)
				return
			}
			in[n] = &Plug{Snap: d.info, Name: n, Interface: n, Unscoped: true}
		}
		in[n].Unscoped = false
		to(in[n])
	}
}

func toApp(name string) func(*Plug) {
	return func(p *Plug) { p.Apps = append(p.Apps, name) }
}

func toHook(name string) func(*Plug) {
	return func(p *Plug) { p.Hooks = append(p.Hooks, name) }
}

// plug reads an entry of the top-level plugs: or slots:, which is the name of
// an interface, a map with interface: and attributes, or nothing.
func (d *draft) plug(in map[string]*Plug, name, path string, v *yaml.Node) {
	// Apps and hooks may have bound the name before the author described it.
	p := in[name]
	if p == nil {
		if len(in) >= maxPlugs {
			d.bad(path, "is one too many; at most %d are allowed", maxPlugs)
			return
		}
		p = &Plug{Snap: d.info, Name: name, Unscoped: true}
		in[name] = p
	}
	p.Interface = name
	switch {
	case v.Kind == yaml.ScalarNode:
		if s, ok := d.str(path, v); ok && s != "" {
			p.Interface = s
		}
	case v.Kind == yaml.MappingNode:
		d.mapping(path, v, func(key, path string, v *yaml.Node) { d.plugKey(p, key, path, v) })
	default:
		d.bad(path, "must be the name of an interface or a map, found %s", kindName(v))
	}
}

func (d *draft) plugKey(p *Plug, key, path string, v *yaml.Node) {
	switch key {
	case "interface":
		if s, ok := d.str(path, v); ok && s != "" {
			p.Interface = s
		}
	case "label":
		p.Label = d.prose(path, v, 512, "")
	default:
		if len(key) > 128 || !attrNamePattern.MatchString(key) {
			d.bad(path, "%s cannot be the name of an attribute; use letters, digits, and dashes inside", quote(key))
			return
		}
		if value, ok := d.attr(path, v); ok && value != nil {
			if p.Attrs == nil {
				p.Attrs = Attrs{}
			}
			p.Attrs[key] = value
		}
	}
}

// attr reads the value of an attribute; nothing is nil.
func (d *draft) attr(path string, v *yaml.Node) (any, bool) {
	switch v.Kind {
	case yaml.SequenceNode:
		out := make([]any, 0, len(v.Content))
		for n, c := range v.Content {
			e, ok := d.attr(path+"["+strconv.Itoa(n)+"]", follow(c))
			if !ok {
				return nil, false
			}
			out = append(out, e)
		}
		return out, true
	case yaml.MappingNode:
		out, good := map[string]any{}, true
		d.mapping(path, v, func(key, path string, v *yaml.Node) {
			if _, found := controlRune(key, ""); found {
				d.bad(path, "holds a control character, which is not allowed here")
				good = false
				return
			}
			e, ok := d.attr(path, v)
			out[key], good = e, good && ok
		})
		return out, good
	}
	return d.scalarAttr(path, v)
}

func (d *draft) scalarAttr(path string, v *yaml.Node) (any, bool) {
	s, ok := d.str(path, v)
	if !ok {
		return nil, false
	}
	switch v.ShortTag() {
	case "!!null":
		return nil, true
	case "!!bool":
		return strings.EqualFold(s, "true"), true
	case "!!int":
		var n int64
		if err := v.Decode(&n); err != nil {
			d.bad(path, "%s is too large a number", quote(s))
			return nil, false
		}
		return n, true
	case "!!float":
		var f float64
		if err := v.Decode(&f); err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			d.bad(path, "%s is not a number that can be used", quote(s))
			return nil, false
		}
		return f, true
	}
	return s, true
}

// finishPlugs checks names and gives what nobody names to all.
func (d *draft) finishPlugs() {
	var apps []string
	for _, a := range d.apps {
		apps = append(apps, a.Name)
	}
	for _, in := range []struct {
		what string
		m    map[string]*Plug
	}{{"plugs", d.plugs}, {"slots", d.slots}} {
		for _, name := range slices.Sorted(maps.Keys(in.m)) {
			p := in.m[name]
			if err := checkIfaceName(name); err != nil {
				d.bad(in.what, "%s", err)
			} else if err := checkIfaceName(p.Interface); err != nil {
				d.bad(join(in.what, name), "%s", err)
			}
			if p.Unscoped {
				p.Apps, p.Hooks = slices.Clone(apps), slices.Collect(maps.Keys(d.info.Hooks))
			}
			p.Apps, p.Hooks = sortedSet(p.Apps), sortedSet(p.Hooks)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.plugs)) {
		if d.slots[name] != nil {
			d.bad(join("slots", name), "there is a plug of that name; names of plugs and slots must differ")
		}
	}
	d.info.Plugs = d.plugs
	d.info.Slots = make(map[string]*Slot, len(d.slots))
	for name, s := range d.slots {
		d.info.Slots[name] = (*Slot)(s)
	}
	for _, a := range d.apps {
		a.Plugs, a.Slots = boundTo(a.Name, d.plugs), boundTo(a.Name, d.slots)
	}
	for _, h := range d.info.Hooks {
		h.Plugs, h.Slots = boundTo("hook."+h.Name, d.plugs), boundTo("hook."+h.Name, d.slots)
	}
}

// boundTo returns the names of those that are for an app, or for "hook.NAME".
func boundTo(appOrHook string, in map[string]*Plug) []string {
	var out []string
	for name, p := range in {
		if p.Unscoped || p.Serves(appOrHook) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func sortedSet(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
