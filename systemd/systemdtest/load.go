// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// unit is a loaded unit.
type unit struct {
	name      string
	fragment  string // path as the system sees it; "" without a file
	content   string // all files that it was made of
	load      string
	conf      map[string][]string // "Section.Key" -> values
	wants     []string            // from .wants and .requires directories
	requires  []string
	props     map[string]dbus.Variant
	transient bool

	active, sub, result string
	seq                 int // number of the last action; an older one's end is void
	job                 *job
	mainPID             int
	procs               map[int]bool
	invocation          []byte
	fdstore, restarts   int
	execPID             int
	execStart, execExit uint64
	activeExit          uint64
	execCode, execStat  int32
	frozen              bool
	stopping            bool
	mounting            chan struct{} // closed when the last start's hook has returned
}

func unitDirs() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"}
}

// load returns the unit, from its files if it is not in memory. A unit
// without a file is returned but not kept.
func (f *Fake) load(name string) *unit {
	if u := f.units[name]; u != nil {
		return u
	}
	u := &unit{name: name, active: "inactive", sub: "dead", result: "success",
		procs: map[int]bool{}, props: map[string]dbus.Variant{}}
	f.read(u)
	if u.load != "not-found" {
		f.units[name] = u
	}
	return u
}

// read takes a unit's configuration from its files.
func (f *Fake) read(u *unit) {
	if u.transient {
		return
	}
	u.conf = map[string][]string{}
	u.fragment, u.content, u.load = "", "", "not-found"
	names := []string{u.name}
	if i := strings.IndexByte(u.name, '@'); i >= 0 {
		names = append(names, u.name[:i+1]+filepath.Ext(u.name))
	}
	fragment, data := f.findFragment(names)
	switch {
	case fragment == "/dev/null":
		u.load, u.fragment = "masked", fragment
		return
	case fragment != "":
		u.load, u.fragment = "loaded", fragment
		u.parse(data)
	case slices.Contains([]string{".target", ".slice"}, filepath.Ext(u.name)):
		u.load = "loaded"
	default:
		return
	}
	u.content = string(data)
	for _, file := range f.dropIns(names) {
		if data, err := os.ReadFile(file); err == nil {
			u.parse(data)
			u.content += "\x00" + file + "\x00" + string(data)
		}
	}
	u.wants, u.requires = f.linked(u.name, ".wants"), f.linked(u.name, ".requires")
}

// findFragment returns the first file of the names, in the order of the
// directories.
func (f *Fake) findFragment(names []string) (string, []byte) {
	for _, name := range names {
		for _, dir := range unitDirs() {
			path := filepath.Join(dir, name)
			if to, err := os.Readlink(f.root + path); err == nil && to == "/dev/null" {
				return "/dev/null", nil
			}
			if data, err := os.ReadFile(f.root + path); err == nil {
				return path, data
			}
		}
	}
	return "", nil
}

// dropIns lists the files of the .d directories, by name; the first directory
// wins for each name.
func (f *Fake) dropIns(names []string) []string {
	byName := map[string]string{}
	for _, dir := range unitDirs() {
		for _, name := range names {
			files, _ := filepath.Glob(f.root + dir + "/" + name + ".d/*.conf")
			for _, file := range files {
				if byName[filepath.Base(file)] == "" {
					byName[filepath.Base(file)] = file
				}
			}
		}
	}
	var out []string
	for _, file := range byName {
		out = append(out, file)
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return out
}

func (f *Fake) linked(name, suffix string) []string {
	var out []string
	for _, dir := range unitDirs() {
		links, _ := filepath.Glob(f.root + dir + "/" + name + suffix + "/*")
		for _, l := range links {
			out = append(out, filepath.Base(l))
		}
	}
	return out
}

// parse adds a file's settings. An empty value resets what came before.
func (u *unit) parse(data []byte) {
	section, before := "", ""
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := before + strings.TrimSpace(sc.Text())
		before = ""
		if head, ok := strings.CutSuffix(line, `\`); ok {
			before = head + " "
			continue
		}
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				continue
			}
			key, value = section+"."+strings.TrimSpace(key), strings.TrimSpace(value)
			if value == "" {
				delete(u.conf, key)
				continue
			}
			u.conf[key] = append(u.conf[key], u.expand(value))
		}
	}
}

// expand replaces the specifiers that name the unit.
func (u *unit) expand(s string) string {
	base := strings.TrimSuffix(u.name, filepath.Ext(u.name))
	prefix, instance, _ := strings.Cut(base, "@")
	return strings.NewReplacer("%%", "%", "%n", u.name, "%N", base, "%p", prefix, "%i", instance, "%I", instance).Replace(s)
}

// one is the last value of a setting.
func (u *unit) one(key string) string {
	if v := u.conf[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// list is a setting that names units; transient units have it as property.
func (u *unit) list(key string) []string {
	var out []string
	for _, v := range u.conf["Unit."+key] {
		out = append(out, strings.Fields(v)...)
	}
	if v, ok := u.props[key].Value().([]string); ok {
		out = append(out, v...)
	}
	return out
}

func (u *unit) kind() string { return strings.TrimPrefix(filepath.Ext(u.name), ".") }

func (u *unit) typ() string {
	if t := u.one("Service.Type"); t != "" {
		return t
	}
	return "simple"
}

// argv is the command of ExecStart=, split at blanks: enough for a fake.
func (u *unit) argv() []string {
	words := strings.Fields(u.one("Service.ExecStart"))
	for i, w := range words {
		words[i] = strings.Trim(w, `"`)
	}
	if len(words) > 0 {
		words[0] = strings.TrimLeft(words[0], "@-:+!")
	}
	return words
}

// service is what a socket or timer activates.
func (u *unit) service() string {
	if s := u.one("Socket.Service"); s != "" {
		return s
	}
	if s := u.one("Timer.Unit"); s != "" {
		return s
	}
	return strings.TrimSuffix(u.name, filepath.Ext(u.name)) + ".service"
}

// needsReload says that the files are not those that the unit was made of.
func (f *Fake) needsReload(u *unit) bool {
	if u.transient {
		return false
	}
	now := &unit{name: u.name}
	f.read(now)
	return now.content != u.content || now.fragment != u.fragment
}

// reload reads all unit files again.
func (f *Fake) reload() {
	for name, u := range f.units {
		f.read(u)
		if u.load == "not-found" && u.active == "inactive" && u.job == nil {
			delete(f.units, name)
		}
	}
}
