// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"endured/snap"
)

// BusyRevisionError says that a refresh would put a snap onto a revision that
// is not current and that processes still run from: its data is theirs.
type BusyRevisionError struct {
	Snap     string
	Revision snap.Revision
	PIDs     []int // ascending; empty when the processes have no known PID
}

func (e *BusyRevisionError) Error() string {
	return fmt.Sprintf("cannot use revision %s of snap %q: processes still run from it%s", e.Revision, e.Snap, pidList(e.PIDs))
}

// RunningAppsError says that a snap cannot go while its apps run.
type RunningAppsError struct {
	Event Event // Remove or Disable
	Snap  string
	Apps  []Process // by PID
}

func (e *RunningAppsError) Error() string {
	var names []string
	for _, p := range e.Apps {
		names = append(names, fmt.Sprintf("%s.%s (pid %d)", e.Snap, p.App, p.PID))
	}
	return fmt.Sprintf("cannot %s snap %q: its apps are running: %s", e.Event, e.Snap, strings.Join(names, ", "))
}

// UnknownServiceError says that Input.Only names what is not a service of the snap.
type UnknownServiceError struct {
	Event     Event
	Snap, App string
}

func (e *UnknownServiceError) Error() string {
	return fmt.Sprintf("cannot %s %s.%s: snap %q has no such service", e.Event, e.Snap, e.App, e.Snap)
}

// MismatchError says how what happened differs from the plan.
type MismatchError struct {
	Snap        string
	Differences []string // one clause each, in the plan's order
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("cannot match the plan for snap %q: %s", e.Snap, strings.Join(e.Differences, "; "))
}

func verb(e Event) string {
	if e == LocalInstall {
		return "refresh"
	}
	if e == Shutdown {
		return "shut down"
	}
	return string(e)
}

func pidList(pids []int) string {
	if len(pids) == 0 {
		return ""
	}
	sorted := append([]int(nil), pids...)
	sort.Ints(sorted)
	words := make([]string, len(sorted))
	for i, p := range sorted {
		words[i] = strconv.Itoa(p)
	}
	if len(words) == 1 {
		return " (pid " + words[0] + ")"
	}
	return " (pids " + strings.Join(words, ", ") + ")"
}
