// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"slices"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// topKeys are the keys that snap.yaml may have at its top level; those that
// topKey does not read describe the snap to a store and do nothing here.
var topKeys = []string{
	"apps", "architectures", "assumes", "base", "components", "confinement", "contact", "description", "donation",
	"environment", "epoch", "grade", "hooks", "icon", "issues", "layout", "license", "links", "name", "plugs", "provenance",
	"slots", "source-code", "summary", "system-usernames", "title", "type", "version", "website",
}

// draft is an Info in the making.
type draft struct {
	parser
	info  *Info
	plugs map[string]*Plug
	slots map[string]*Plug // see Slot
	apps  []*appDraft      // in the author's order
}

// Parse reads and validates a snap.yaml. The error is an *InvalidError that
// lists everything that was found. What is valid and yet cannot be done by
// this version is for Supported to say.
func Parse(data []byte) (*Info, error) {
	root, err := readTree(data)
	if err != nil {
		return nil, &InvalidError{Problems: []Problem{{Message: err.Error()}}}
	}
	d := &draft{
		info: &Info{
			Type: "app", Confinement: "strict", Architectures: []string{"all"},
			Epoch: Epoch{Read: []uint32{0}, Write: []uint32{0}},
			Apps:  map[string]*App{},
			Hooks: map[string]*Hook{},
		},
		plugs: map[string]*Plug{},
		slots: map[string]*Plug{},
	}
	if root.Kind != yaml.MappingNode {
		d.bad("", "the document must be a map of keys such as name and version, found %s", kindName(root))
	} else {
		d.mapping("", root, d.topKey)
		d.finish()
	}
	if len(d.problems) > 0 {
		return nil, &InvalidError{Problems: d.problems}
	}
	d.info.Notes = d.notes
	d.info.needs = d.needs
	return d.info, nil
}

func (d *draft) topKey(key, path string, v *yaml.Node) {
	i := d.info
	switch key {
	case "name":
		i.Name, _ = d.str(path, v)
	case "version":
		i.Version, _ = d.str(path, v)
	case "title":
		i.Title = d.prose(path, v, 40, "")
	case "summary":
		i.Summary = d.prose(path, v, 128, "")
	case "description":
		i.Description = d.prose(path, v, 4096, "\n")
	case "license":
		i.License = d.prose(path, v, 512, "")
	case "type":
		if w := d.word(path, v, "app", "application", "base", "gadget", "kernel", "os", "core", "snapd"); w != "" && w != "application" {
			i.Type = w
		}
	case "base":
		i.Base, _ = d.str(path, v)
	case "confinement":
		if w := d.word(path, v, "strict", "devmode", "classic"); w != "" {
			i.Confinement = w
		}
	case "grade":
		d.word(path, v, "stable", "devel")
	case "architectures":
		d.architectures(path, v)
	case "epoch":
		i.Epoch = d.epoch(path, v)
	case "assumes":
		i.Assumes = d.strs(path, v)
	case "environment":
		i.Environment = d.environment(path, v)
	case "apps":
		d.mapping(path, v, d.app)
	case "plugs", "slots":
		d.mapping(path, v, func(key, path string, v *yaml.Node) { d.plug(d.plugsAt(path), key, path, v) })
	default:
		d.topNeed(key, path, v)
	}
}

// topNeed reads the keys that this version cannot honour, and knows the rest.
func (d *draft) topNeed(key, path string, v *yaml.Node) {
	switch key {
	case "hooks":
		d.mapping(path, v, d.hook)
	case "layout":
		d.refuse(path, v, "layouts are not supported yet")
	case "system-usernames":
		d.refuse(path, v, "system users for snaps are not supported yet")
	case "components":
		d.refuse(path, v, "components are not supported yet")
	default:
		if !slices.Contains(topKeys, key) {
			d.unknown(path, key, topKeys)
		}
	}
}

// refuse records a need unless the key has no content.
func (d *draft) refuse(path string, v *yaml.Node, reason string) {
	if !isNull(v) && (v.Kind == yaml.ScalarNode || len(v.Content) > 0) {
		d.need(path, "%s", reason)
	}
}

// prose reads text for people, of at most max characters; only the characters
// of allowed may be control characters.
func (d *draft) prose(path string, v *yaml.Node, most int, allowed string) string {
	s, ok := d.text(path, v)
	if !ok {
		return ""
	}
	if r, found := controlRune(s, allowed); found {
		d.bad(path, "holds the control character %U, which is not allowed here", r)
		return ""
	}
	if n := utf8.RuneCountInString(s); n > most {
		d.bad(path, "has %d characters; at most %d are allowed", n, most)
		return ""
	}
	return s
}

func (d *draft) architectures(path string, v *yaml.Node) {
	list := d.strs(path, v)
	for _, a := range list {
		if len(a) > 20 || !ifaceNamePattern.MatchString(a) {
			d.bad(path, "%s is not the name of an architecture", quote(a))
			return
		}
	}
	if len(list) > 0 {
		d.info.Architectures = list
	}
}

// environment reads a map, or a list of maps, in the author's order.
func (d *draft) environment(path string, v *yaml.Node) []EnvVar {
	var out []EnvVar
	seen := map[string]bool{}
	each := func(key, path string, v *yaml.Node) {
		value, ok := d.str(path, v)
		switch {
		case len(key) > 128 || !envNamePattern.MatchString(key):
			d.bad(path, "%s cannot be the name of a variable; use letters, digits and _, no digit first", quote(key))
		case seen[key]:
			d.bad(path, "appears twice")
		case len(value) > maxEnvValue:
			d.bad(path, "has %d bytes; at most %d are allowed", len(value), maxEnvValue)
		case ok && len(out) == maxEnv:
			d.bad(path, "is one too many; at most %d variables are allowed", maxEnv)
		case ok:
			seen[key] = true
			out = append(out, EnvVar{Name: key, Value: value})
		}
	}
	if v.Kind != yaml.SequenceNode {
		d.mapping(path, v, each)
		return out
	}
	for _, c := range v.Content {
		d.mapping(path, follow(c), each)
	}
	return out
}

// finish checks what takes the whole document to check.
func (d *draft) finish() {
	i := d.info
	if err := CheckName(i.Name); i.Name == "" {
		d.bad("name", "is missing")
	} else if err != nil {
		d.bad("name", "%s", err)
	}
	if err := checkVersion(i.Version); i.Version == "" {
		d.bad("version", "is missing")
	} else if err != nil {
		d.bad("version", "%s", err)
	}
	d.finishPlugs()
	for _, a := range d.apps {
		d.finishApp(a)
	}
	d.checkOrder()
	d.checkActivation()
	if len(d.problems) == 0 {
		d.findNeeds()
	}
}
