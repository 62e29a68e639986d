// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"time"

	"endured/snap"
)

// class is what a word of refresh-mode asks for.
type class string

const (
	classEndure  class = "endure"  // left alone
	classRestart class = "restart" // stopped and started
	classStop    class = "stop"    // "finish; the new revision starts after you"
	classNotify  class = "notify"  // "the new revision is in place"
)

// classOf gives a service's mode its class; false if services have no such mode.
func classOf(m snap.RefreshMode) (class, bool) {
	switch m {
	case "endure":
		return classEndure, true
	case "restart":
		return classRestart, true
	}
	switch m.Signal() {
	case "SIGTERM", "SIGINT":
		return classStop, true
	case "SIGHUP", "SIGUSR1", "SIGUSR2":
		return classNotify, true
	}
	return "", false
}

// Mode returns the word that a revision's app follows on refresh: its
// refresh-mode, else its stop-mode, else "restart". Apps that are no service
// endure, whatever they declare.
func Mode(a *snap.App) string {
	word, _ := effective(a)
	return string(word)
}

// Told tells whether a refresh tells a service of the new revision and leaves
// it running, so that it may execute itself anew.
func Told(a *snap.App) bool {
	c, _ := classOf(snap.RefreshMode(Mode(a)))
	return c == classNotify
}

// effective is Mode, and the clause that says where the word comes from.
func effective(a *snap.App) (word snap.RefreshMode, why string) {
	switch {
	case a == nil:
		return "restart", "restart is the default"
	case !a.IsService():
		return "endure", "apps endure"
	case a.RefreshMode != "":
		return a.RefreshMode, "refresh-mode is " + string(a.RefreshMode)
	case a.StopMode != "":
		return snap.RefreshMode(a.StopMode),
			"stop-mode is " + string(a.StopMode) + " and refresh-mode is unset"
	}
	return "restart", "restart is the default"
}

// word is the decided mode of one process.
type word struct {
	mode    snap.RefreshMode
	class   class
	decider Decider
	why     string
}

// wordFor decides which mode a process follows: the operator's override, else
// what the revision it was started from declares.
func (d *decision) wordFor(app string, from snap.Revision) (word, error) {
	if m := d.in.Override[app]; m != "" {
		c, ok := classOf(m)
		if !ok {
			return word{}, fmt.Errorf("cannot use %q as the operator's refresh-mode of %s.%s: no service has such a mode",
				m, d.name, app)
		}
		return word{m, c, ByOperator, "the operator's refresh-mode is " + string(m)}, nil
	}
	a, known := d.source(app, from)
	m, why := effective(a)
	c, ok := classOf(m)
	if !ok {
		return word{}, fmt.Errorf("cannot follow refresh-mode %q of %s.%s: no service has such a mode", m, d.name, app)
	}
	switch {
	case !known:
		why = fmt.Sprintf("%s, and what revision %s said is not known", why, from)
	case d.in.Old != nil && !from.Unset() && from != d.in.Old.Revision:
		why = fmt.Sprintf("%s in revision %s, which it was started from", why, from)
	}
	return word{m, c, BySnap, why}, nil
}

// source returns the service as the given revision declares it. When that
// revision is not known any more, or had no such service, the current one
// stands in for it and known is false; a new revision has no say over what it
// did not start. The result is nil if nobody declares it.
func (d *decision) source(app string, rev snap.Revision) (a *snap.App, known bool) {
	if rev.Unset() {
		return service(d.in.Old, app), true
	}
	if a := service(d.revisions[rev], app); a != nil {
		return a, true
	}
	return service(d.in.Old, app), false
}

// bound returns the stop timeout of an app under the operator's ceiling. The
// ceiling holds for every event alike: were it for refresh only, a refresh
// could be harsher than remove.
func (d *decision) bound(a *snap.App) (timeout time.Duration, clamped bool) {
	timeout = snap.DefaultStopTimeout
	if a != nil && a.StopTimeout > 0 {
		timeout = a.StopTimeout
	}
	if ceiling := d.in.StopTimeoutMax; ceiling > 0 && timeout > ceiling {
		return ceiling, true
	}
	return timeout, false
}

// service returns an app if it is a service there.
func service(i *snap.Info, app string) *snap.App {
	if i == nil {
		return nil
	}
	if a := i.Apps[app]; a != nil && a.IsService() {
		return a
	}
	return nil
}

func first(a, b *snap.App) *snap.App {
	if a != nil {
		return a
	}
	return b
}
