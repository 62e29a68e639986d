// SPDX-License-Identifier: Apache-2.0

// Package wrappers turns the description of a revision into what systemd runs:
// service, socket and mount units, the launchers in /snap/bin, and the drop-in
// that keeps the stop side of an older revision for a process that stays.
// What is generated is a pure function of the description; writing it is kept
// apart, converges on what is wanted, and reports what it changed.
package wrappers

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"endured/dirs"
	"endured/snap"
	"endured/systemd"
)

// Options are what the generated files depend on besides the snap.
type Options struct {
	// Dirs says below which root files are written. Paths inside generated
	// files are those of the running system, whatever the root.
	Dirs dirs.Dirs
	// SnapCommand is the program that launchers link to; "" is /usr/bin/snap.
	SnapCommand string
	// Arch is $SNAP_ARCH, in Debian's spelling; "" is this program's own.
	Arch string
	// Machine tells this machine from others: the moment in a window such as
	// 9:00~11:00 at which a timer fires is derived from it.
	Machine string
	// StopTimeoutMax is asked for the operator's ceiling on every stop-timeout;
	// nil, or a result of 0, is none.
	StopTimeoutMax func() time.Duration
	// Confiner says how services are confined; nil confines none.
	Confiner Confiner
}

func (o Options) snapCommand() string {
	if o.SnapCommand == "" {
		return "/usr/bin/snap"
	}
	return o.SnapCommand
}

func (o Options) arch() string {
	if o.Arch == "" {
		return snap.HostArch()
	}
	return o.Arch
}

// File is one file that a snap needs, or, with Link, a symbolic link.
type File struct {
	Path string // absolute, of the system as it is; Dirs.Under gives where it is written
	Data []byte
	Mode fs.FileMode // permission bits
	Link string      // target; Data and Mode mean nothing then
}

// Set is everything that systemd needs to know of one revision, but for its
// mount. Paths are of the system as it is.
type Set struct {
	Snap     string
	Revision snap.Revision
	// Services holds the service's unit by app name.
	Services map[string]string
	// Sockets holds the socket units by app name, sorted.
	Sockets map[string][]string
	// Timers holds the timer unit by app name.
	Timers map[string]string
	// Enable holds, by app name, the units to enable so that the service is
	// started when it should be: its activators if it has any, else itself.
	// It is empty for what only D-Bus starts.
	Enable map[string][]string
	// Files are the unit files, those for the system bus (see BusFile) and the
	// tmpfiles.d entry, sorted by path.
	Files []File
	// Links are made once the sockets listen, and removed with the snap.
	Links []Link
}

// Units returns the units of a revision. It reads nothing but its arguments
// and gives the same answer for the same ones. It fails for what cannot be
// expressed, such as a control character in a value.
func Units(info *snap.Info, o Options) (Set, error) {
	s := Set{
		Snap: info.Name, Revision: info.Revision,
		Services: map[string]string{}, Sockets: map[string][]string{}, Timers: map[string]string{}, Enable: map[string][]string{},
	}
	for _, app := range info.SortedApps() {
		if !app.IsService() {
			continue
		}
		if err := s.addService(app, o); err != nil {
			return Set{}, fmt.Errorf("cannot generate the units of %q: %w", info.Name+"."+app.Name, err)
		}
	}
	policy, err := busPolicy(info)
	if err != nil {
		return Set{}, fmt.Errorf("cannot generate the D-Bus policy of %q: %w", info.Name, err)
	}
	if policy != nil {
		s.Files = append(s.Files, *policy)
	}
	if needsTmp(info) {
		s.Files = append(s.Files, tmpfiles(info.Name))
	}
	sort.Slice(s.Files, func(x, y int) bool { return s.Files[x].Path < s.Files[y].Path })
	return s, nil
}

func (s *Set) addService(app *snap.App, o Options) error {
	data, err := serviceUnit(app, o)
	if err != nil {
		return err
	}
	s.Services[app.Name] = app.Unit()
	s.addUnit(app.Unit(), data)
	s.Enable[app.Name] = []string{app.Unit()}
	for _, sock := range app.Sockets {
		data, link, err := socketUnit(sock, o)
		if err != nil {
			return fmt.Errorf("socket %q: %w", sock.Name, err)
		}
		s.Sockets[app.Name] = append(s.Sockets[app.Name], sock.Unit())
		s.addUnit(sock.Unit(), data)
		if link != nil {
			s.Links = append(s.Links, *link)
		}
	}
	if app.Timer != "" {
		data, err := timerUnit(app, o)
		if err != nil {
			return fmt.Errorf("timer: %w", err)
		}
		s.Timers[app.Name] = app.TimerUnit()
		s.addUnit(app.TimerUnit(), data)
	}
	bus, err := BusServices(app)
	if err != nil {
		return err
	}
	s.Files = append(s.Files, bus...)
	if app.Activated() {
		s.Enable[app.Name] = s.Activators(app.Name)
	}
	return nil
}

// Activators are the units that start an app's service in its stead: its
// sockets and its timer.
func (s *Set) Activators(app string) []string {
	units := slices.Clone(s.Sockets[app])
	if t := s.Timers[app]; t != "" {
		units = append(units, t)
	}
	return units
}

func (s *Set) addUnit(name string, data []byte) {
	s.Files = append(s.Files, unitFile(name, data))
}

func unitFile(name string, data []byte) File {
	return File{Path: filepath.Join(system().Units(), name), Data: data, Mode: 0o644}
}

func opt(name, value string) systemd.Option { return systemd.Option{Name: name, Value: value} }

func sect(name string, opts ...systemd.Option) systemd.Section {
	return systemd.Section{Name: name, Options: opts}
}

// system is the layout that generated text speaks of.
func system() dirs.Dirs { return dirs.Dirs{} }

// ownMounts tells whether the services of a snap get a mount namespace of
// their own. A classic snap works on the host's tree, and what it mounts is
// meant for the host.
func ownMounts(info *snap.Info) bool { return info.Confinement != "classic" }

// MountUnitName is the name of the unit that mounts a revision.
func MountUnitName(name string, rev snap.Revision) string {
	return systemd.MountUnit(system().Mount(name, rev))
}

// MountUnit returns the unit that mounts a revision at /snap/NAME/REVISION.
//
// It has no LazyUnmount=: a lazy unmount would take the tree away under the
// processes that still run from it, in their namespaces too.
func MountUnit(name string, rev snap.Revision, _ Options) (unitName string, data []byte, err error) {
	data, err = systemd.Unit{
		sect("Unit",
			opt("Description", fmt.Sprintf("Mount unit for %s, revision %s", name, rev)),
			opt("X-Snappy", "yes"),
			opt("X-Revision", rev.String())),
		sect("Mount",
			opt("What", system().Blob(name, rev)),
			opt("Where", system().Mount(name, rev)),
			opt("Type", "squashfs"),
			opt("Options", "nodev,nosuid,ro,x-gdu.hide,x-gvfs-hide")),
		sect("Install", opt("WantedBy", "multi-user.target")),
	}.Bytes()
	if err != nil {
		return "", nil, fmt.Errorf("cannot generate the mount unit of %s (%s): %w", name, rev, err)
	}
	return MountUnitName(name, rev), data, nil
}

// Launchers returns the links in /snap/bin: one for every app that is not a
// service, sorted by path.
func Launchers(info *snap.Info, o Options) []File {
	var out []File
	for _, app := range info.SortedApps() {
		if !app.IsService() {
			out = append(out, File{Path: filepath.Join(system().Bin(), app.LauncherName()), Link: o.snapCommand()})
		}
	}
	sort.Slice(out, func(x, y int) bool { return out[x].Path < out[y].Path })
	return out
}

// CurrentLinks say which revision of a snap is current, and which data.
func CurrentLinks(name string, rev snap.Revision) []File {
	return []File{{Path: system().CurrentData(name), Link: rev.String()}, {Path: system().Current(name), Link: rev.String()}}
}

// GateLink has a boot begin with the starts of a snap's services held.
func GateLink(name string, o Options) File {
	return File{
		Path: filepath.Join(system().Units(), "multi-user.target.wants", GateUnit(name)),
		Link: filepath.Join(o.Dirs.SystemUnits(), "snapd-refresh-gate@.service"),
	}
}

// Tidy removes what Stage, Swap and Withdraw left of all files of the revisions.
// A nil one has none.
func Tidy(o Options, infos ...*snap.Info) error {
	for _, i := range infos {
		if i == nil {
			continue
		}
		set, err := Units(i, o)
		if err != nil {
			return err
		}
		Unstage(slices.Concat(set.Files, Launchers(i, o), CurrentLinks(i.Name, i.Revision), []File{GateLink(i.Name, o)}), o)
	}
	return nil
}
