// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"slices"
	"strings"

	"endured/snap"
	"endured/systemd"
)

// LoaderUnit is the name of the unit that loads the profiles of all snaps
// before anything of theirs starts.
const LoaderUnit = "snapd.apparmor.service"

// Confiner says how the programs of a snap are confined.
type Confiner interface {
	// Confinement is asked for an app, or for "hook.NAME", of a revision.
	Confinement(info *snap.Info, appOrHook string) (Confinement, error)
}

// Confinement is how a service or a hook is confined. The zero value is not at
// all, as for a classic snap or one in devmode.
type Confinement struct {
	// Profile is the AppArmor profile, "" for none. A service does not start
	// without it where the kernel has AppArmor.
	Profile string
	// Strict puts the sandbox of systemd around it: few capabilities, no system
	// call that administers the system, no namespaces.
	Strict bool
	// NoNewPrivileges is for where no profile is enforced: under it the kernel
	// refuses the change of profile by which a process follows its snap's refresh.
	NoNewPrivileges bool
	// Capabilities are all that it can have under Strict, such as "CAP_CHOWN".
	Capabilities []string
	// Syscalls are allowed besides: names, or groups such as "@mount".
	Syscalls []string
	// Delegate is for managers of containers: a cgroup of their own and
	// namespaces as they like.
	Delegate bool
	// Run lists what it sees of /run under Strict, besides what every service
	// does: files and directories that need not be there. "/run" is all of it.
	Run []string
	// Binds are mounted for it alone.
	Binds []Bind
	// Directives are further ones of the [Service] section.
	Directives []systemd.Option
}

// Bind is a directory of another snap shown at another place. A source that is
// not there at the start is left out: the other snap may have yet to make it.
type Bind struct {
	Source, Target string // clean absolute paths
	Within         string // is root's; no link below it may lead out of it
	ReadOnly       bool
}

// refusedCalls administer the system or reach past the path rules of a
// profile. It is a list of what is refused and not of what is allowed: that
// takes systemd 14 ms longer for each start, in the gap of every refresh.
const refusedCalls = "@clock @cpu-emulation @debug @keyring @module @mount @obsolete @raw-io @reboot @swap " +
	"acct bpf open_by_handle_at quotactl quotactl_fd userfaultfd vhangup"

// ConfineOptions are the directives of the [Service] section of a unit that
// confine a service or, as "hook.NAME", a hook.
func ConfineOptions(info *snap.Info, appOrHook, unit string, o Options) ([]systemd.Option, error) {
	c, err := confinementOf(info, appOrHook, o)
	if err != nil {
		return nil, err
	}
	var opts []systemd.Option
	if c.Profile != "" {
		opts = append(opts, opt("AppArmorProfile", c.Profile))
	}
	if c.Strict {
		opts = append(opts, StrictOptions(c)...)
	}
	if c.Delegate {
		opts = append(opts, opt("Delegate", "yes"))
	}
	binds, err := contentOptions(unit, c.Binds)
	if err != nil {
		return nil, fmt.Errorf("cannot show a directory to %q: %w", info.Name+"."+appOrHook, err)
	}
	return append(append(opts, binds...), c.Directives...), nil
}

func confinementOf(info *snap.Info, appOrHook string, o Options) (Confinement, error) {
	if o.Confiner == nil {
		return Confinement{}, nil
	}
	c, err := o.Confiner.Confinement(info, appOrHook)
	if err != nil {
		return c, fmt.Errorf("cannot tell how %q is confined: %w", info.Name+"."+appOrHook, err)
	}
	return c, nil
}

// StrictOptions are the directives for Strict.
func StrictOptions(c Confinement) []systemd.Option {
	caps := slices.Clone(c.Capabilities)
	slices.Sort(caps)
	opts := []systemd.Option{
		opt("CapabilityBoundingSet", strings.Join(slices.Compact(caps), " ")),
		opt("RestrictSUIDSGID", "yes"),
		opt("SystemCallFilter", "~"+refusedCalls),
		opt("SystemCallErrorNumber", "EPERM"),
	}
	if len(c.Syscalls) > 0 {
		opts = append(opts, opt("SystemCallFilter", strings.Join(c.Syscalls, " ")))
	}
	if !c.Delegate {
		opts = append(opts, opt("RestrictNamespaces", "yes"))
	}
	if c.NoNewPrivileges {
		opts = append(opts, opt("NoNewPrivileges", "yes"))
	}
	return append(opts, runOptions(c.Run)...)
}

// runOptions gives a service a /run of its own. There the sockets are by which
// a process of root could have PID 1 or another daemon do anything for it, and
// most kernels' AppArmor does not govern connecting to a socket. What is shown
// are directories, so that a socket that is made anew is seen, too.
func runOptions(more []string) []systemd.Option {
	if slices.Contains(more, "/run") {
		return nil
	}
	opts := []systemd.Option{
		opt("TemporaryFileSystem", "/run:mode=0755,size=16M"),
		opt("BindReadOnlyPaths", "-/run/systemd/notify -/run/systemd/journal -"+system().Run()),
	}
	if len(more) > 0 {
		shown := slices.Clone(more)
		slices.Sort(shown)
		opts = append(opts, opt("BindPaths", "-"+strings.Join(slices.Compact(shown), " -")))
	}
	return opts
}
