// SPDX-License-Identifier: Apache-2.0

package hookstate

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"endured/osutil"
	"endured/overlord/snapstate"
	"endured/wrappers"
)

// Caller is a process that runs snapctl: a program of a snap.
type Caller struct {
	Snap string
	App  string // "" for a hook
	Hook string // "" for an app
	Task string // of the hook
	UID  uint32
}

// StrangerError says that a process is of no snap.
type StrangerError struct{ PID int }

func (e *StrangerError) Error() string {
	return fmt.Sprintf("cannot use snapctl: process %d runs in no service, app or hook of a snap", e.PID)
}

var serviceName = regexp.MustCompile(`^snap\.([^.]+)\.([^.]+)\.service$`)

// Identify finds out which snap a process belongs to. What counts is the unit
// that PID 1, asked by snapd, has put it into: a process cannot leave it or
// enter another one. Only the outermost unit does, since what is below one is
// in the hands of those who run there. The caller makes sure, afterwards, that
// pid still is the process that was meant.
func (m *Manager) Identify(pid int) (*Caller, error) {
	cgroup, err := osutil.CgroupOf(pid)
	if err != nil {
		return nil, err
	}
	c := callerOf(unitIn(cgroup, rootOf(osutil.CgroupOf)))
	if c == nil {
		return nil, &StrangerError{PID: pid}
	}
	if label := LabelOf(pid); strings.HasPrefix(label, "snap.") && !strings.HasPrefix(label, "snap."+c.Snap+".") {
		return nil, fmt.Errorf("cannot use snapctl: process %d is in a unit of snap %q and confined as %q", pid, c.Snap, label)
	}
	return c, nil
}

// rootOf is where PID 1's own tree begins, "" at the top.
func rootOf(cgroupOf func(pid int) (string, error)) string {
	own, err := cgroupOf(1)
	if err != nil {
		return ""
	}
	root, ok := strings.CutSuffix(own, "/init.scope")
	if !ok {
		return ""
	}
	return root
}

// unitIn is the outermost unit of a cgroup that is no slice.
func unitIn(cgroup, root string) string {
	rest, ok := strings.CutPrefix(cgroup, root+"/")
	if !ok {
		return ""
	}
	for part := range strings.SplitSeq(rest, "/") {
		if !strings.HasSuffix(part, ".slice") {
			return part
		}
	}
	return ""
}

// callerOf reads the name of a unit; nil if it is of no snap.
func callerOf(unit string) *Caller {
	if name, hook, id, ok := wrappers.ParseHookUnitName(unit); ok {
		return &Caller{Snap: name, Hook: hook, Task: id}
	}
	if s := serviceName.FindStringSubmatch(unit); s != nil {
		return &Caller{Snap: s[1], App: s[2]}
	}
	if name, app, _, ok := snapstate.ParseScope(unit); ok {
		return &Caller{Snap: name, App: app}
	}
	return nil
}

// LabelOf is a process's AppArmor label without its mode, "" if there is none.
func LabelOf(pid int) string {
	for _, file := range []string{"apparmor/current", "current"} {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/%s", pid, file))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		label, _, _ := strings.Cut(strings.TrimRight(string(raw), "\n\x00"), " ")
		return label
	}
	return ""
}
