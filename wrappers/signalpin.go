// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"

	"endured/snap"
	"endured/systemd"
)

// SignalPin returns the drop-in under which a restart job ends a process of the
// revision old by a signal of its refresh-mode: the signal in place of the
// unit's own, no stop-command, everything else as old declares it. With
// mainOnly the rest of the cgroup is left alone; that is for services that made
// sub-cgroups of their own, whose workers are not moved away. needed is false
// if the units of the revision new do the same without it.
func SignalPin(old, new *snap.Info, app, signal string, mainOnly bool, o Options) (data []byte, needed bool, err error) {
	fail := func(err error) ([]byte, bool, error) {
		return nil, false, fmt.Errorf("cannot pin the signal of %q: %w", old.Name+"."+app, err)
	}
	mount, opts, err := pinned(old, new, app, o)
	if err != nil {
		return fail(err)
	}
	is, err := StopSide(new.Apps[app], o)
	if err != nil {
		return fail(err)
	}
	was, err := StopSide(old.Apps[app], o)
	if err != nil {
		return fail(err)
	}
	mode := "control-group"
	if mainOnly {
		mode = "process"
	}
	needed = len(opts) > 0 || was.ExecStop != "" || is.ExecStop != "" || signal != is.KillSignal || mode != is.KillMode
	opts = append(opts, opt("KillSignal", signal), opt("KillMode", mode), opt("ExecStop", ""))
	u := systemd.Unit{
		sect("Unit", opt("X-Revision", old.Revision.String()), opt("After", mount)),
		sect("Service", opts...),
	}
	if data, err = u.Bytes(); err != nil {
		return fail(err)
	}
	return data, needed, nil
}
