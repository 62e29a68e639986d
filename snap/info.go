// SPDX-License-Identifier: Apache-2.0

// Package snap knows what a snap is: it parses and validates snap.yaml, reads
// the metadata out of a .snap file, and packs one. It knows the words of the
// lifecycle keys; what they mean is decided in overlord/lifecycle.
package snap

import (
	"sort"
	"time"
)

// Info is one revision of a snap, as its snap.yaml describes it.
type Info struct {
	Name          string
	Version       string
	Title         string
	Summary       string
	Description   string
	License       string
	Type          string   // "app"; Supported refuses "base", "gadget", "kernel", "os", "snapd"
	Base          string   // "", "none" or "bare"; Supported refuses any other
	Confinement   string   // "strict", "devmode" or "classic"
	Architectures []string // Debian names; ["all"] unless the author said otherwise
	Epoch         Epoch
	Assumes       []string
	Hooks         map[string]*Hook // of hooks:, and of meta/hooks when read from a file or a tree
	Apps          map[string]*App
	Environment   []EnvVar         // in the author's order
	Plugs         map[string]*Plug // those that apps and hooks name included
	Slots         map[string]*Slot

	// Notes are findings that do not make the snap unusable: unknown keys,
	// accepted keys without effect. Each is one sentence for the author.
	Notes []string

	// Revision is not part of snap.yaml: it is what the device calls this revision.
	Revision Revision

	// needs is what Supported refuses, in the author's order.
	needs []Problem
}

// EnvVar is one entry of an environment: map.
type EnvVar struct{ Name, Value string }

// App is one entry of apps:.
type App struct {
	Snap *Info `json:"-"`
	Name string

	Command         string
	CommandChain    []string
	StopCommand     string
	ReloadCommand   string
	PostStopCommand string
	Environment     []EnvVar
	Plugs, Slots    []string // names, sorted; those of the snap that nothing names are for all

	Daemon           string // "", "simple", "forking", "oneshot", "dbus", "notify"
	RefreshMode      RefreshMode
	StopMode         StopMode
	SendSIGKILL      bool          // default true; "send-sigkill: false" is endured's own key
	PIDFile          string        // "pid-file" is endured's own key; variables not expanded
	StartTimeout     time.Duration // 0 is unset
	StopTimeout      time.Duration // 0 is unset
	WatchdogTimeout  time.Duration
	RestartDelay     time.Duration
	RestartCondition string // "", "never", "on-success", …, "always"; "" is on-failure
	SuccessExit      []int
	InstallMode      string   // "", "enable", "disable"
	BusName          string   // of bus-name, else that of the last slot in activates-on
	ActivatesOn      []string // names of slots
	ActivationNames  []string // the D-Bus names of those slots, in their order
	BusNames         []string // what a service may own on the system bus, sorted
	Timer            string
	Before, After    []string  // names of apps of the same snap
	Sockets          []*Socket // sorted by name
}

// Socket is one entry of an app's sockets:.
type Socket struct {
	App          *App `json:"-"`
	Name         string
	ListenStream string // as the author wrote it, variables not expanded
	Mode         uint32 // 0 is unset
}

// IsService tells whether the app is a daemon.
func (a *App) IsService() bool { return a.Daemon != "" }

// Activated tells whether something else than the boot starts the service.
func (a *App) Activated() bool {
	return len(a.Sockets) > 0 || a.Timer != "" || len(a.ActivatesOn) > 0
}

// Unit is the name of the app's systemd service unit.
func (a *App) Unit() string { return "snap." + a.Snap.Name + "." + a.Name + ".service" }

// Unit is the name of the socket's systemd unit.
func (s *Socket) Unit() string {
	return "snap." + s.App.Snap.Name + "." + s.App.Name + "." + s.Name + ".socket"
}

// TimerUnit is the name of the app's systemd timer unit.
func (a *App) TimerUnit() string { return "snap." + a.Snap.Name + "." + a.Name + ".timer" }

// LauncherName is the app's file name in /snap/bin.
func (a *App) LauncherName() string {
	if a.Name == a.Snap.Name {
		return a.Name
	}
	return a.Snap.Name + "." + a.Name
}

// Services returns the daemons in start order: before/after respected, names
// otherwise. Validation has refused cycles.
func (i *Info) Services() []*App {
	var out []*App
	for _, a := range i.SortedApps() {
		if a.IsService() {
			out = append(out, a)
		}
	}
	return orderServices(out)
}

// SortedApps returns all apps by name.
func (i *Info) SortedApps() []*App {
	out := make([]*App, 0, len(i.Apps))
	for _, a := range i.Apps {
		out = append(out, a)
	}
	sort.Slice(out, func(x, y int) bool { return out[x].Name < out[y].Name })
	return out
}

// DefaultStopTimeout is how long a stopping service has before SIGKILL when
// its author did not say.
const DefaultStopTimeout = 30 * time.Second
