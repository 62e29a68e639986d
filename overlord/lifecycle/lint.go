// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"endured/snap"
)

// Finding is something that a snap's author should know.
type Finding struct {
	Key      string `json:"key"`      // path in snap.yaml, such as "apps.web.refresh-mode"
	Severity string `json:"severity"` // Ineffective or Dangerous
	Message  string `json:"message"`  // what it is, a clause without a full stop
	Fix      string `json:"fix"`      // what to do, likewise
}

// The severities of findings about modes.
const (
	Ineffective = "ineffective" // it does not do what its author may think
	Dangerous   = "dangerous"   // it can lose data, connections or processes
)

// Lint finds combinations of keys that are valid and do nothing, or do harm.
// ceiling is the operator's bound on stops, 0 for none.
func Lint(info *snap.Info, ceiling time.Duration) []Finding {
	l := &linter{ceiling: ceiling}
	for _, a := range info.SortedApps() {
		l.app = a
		if a.IsService() {
			l.service()
		} else {
			l.command()
		}
	}
	return l.found
}

type linter struct {
	app     *snap.App
	ceiling time.Duration
	found   []Finding
}

func (l *linter) add(key, severity, message, fix string) {
	l.found = append(l.found, Finding{Key: "apps." + l.app.Name + "." + key, Severity: severity, Message: message, Fix: fix})
}

func (l *linter) command() {
	if l.app.RefreshMode != "" {
		l.add("refresh-mode", Ineffective, fmt.Sprintf("%s has no effect: a refresh neither waits for an app nor ends it", l.app.RefreshMode),
			"leave it out")
	}
	if l.app.StopCommand != "" || l.app.PostStopCommand != "" || l.app.ReloadCommand != "" {
		l.add("stop-command", Ineffective, "commands that stop or reload are run for services only", "leave them out, or set daemon")
	}
}

func (l *linter) service() {
	a := l.app
	word, _ := effective(a)
	c, ok := classOf(word)
	if !ok {
		return
	}
	key := "refresh-mode"
	if a.RefreshMode == "" {
		key = "stop-mode"
	}
	if a.Daemon == "oneshot" && c != classRestart {
		l.add(key, Ineffective, fmt.Sprintf("%s is for processes that run, and a oneshot that is done has none", word),
			"leave it out, unless its work takes long")
	}
	if c == classEndure || c == classNotify {
		l.stays(word, c)
	}
	if l.ceiling > 0 && a.StopTimeout > l.ceiling {
		l.add("stop-timeout", Ineffective, fmt.Sprintf("%s is over the operator's limit of %s, which counts", a.StopTimeout, l.ceiling),
			fmt.Sprintf("make do with %s, or have refresh.stop-timeout-max raised", l.ceiling))
	}
	if !a.SendSIGKILL && c == classEndure {
		l.add("send-sigkill", Ineffective, "a refresh does not end this service, so there is nothing to give up; it holds for stops",
			"keep it if a stop should be given up too")
	}
}

// stays looks for what a process that outlives a refresh has in the data of the
// revision that it was started from, which is sealed then.
func (l *linter) stays(word snap.RefreshMode, c class) {
	a := l.app
	who := "it goes on after a refresh, when its own $SNAP_DATA is no longer written to"
	if c == classNotify {
		who = "if it executes itself anew it keeps its environment, and $SNAP_DATA in it is that of the old revision"
	}
	const fix = "use $SNAP_COMMON, or /var/snap/" + "<snap>/current"
	for _, s := range a.Sockets {
		if strings.HasPrefix(s.ListenStream, "$SNAP_DATA/") {
			l.add("sockets."+s.Name+".listen-stream", Dangerous,
				fmt.Sprintf("%s lies in the data of one revision, and with refresh-mode %s the service outlives it: the next revision's socket is another", s.ListenStream, word),
				"use $SNAP_COMMON or $XDG_RUNTIME_DIR")
		}
	}
	if mentionsData(a.Command) {
		l.add("command", Dangerous, "it is given a path in $SNAP_DATA: "+who, fix)
	}
	for _, v := range a.Environment {
		if mentionsData(v.Value) {
			l.add("environment."+v.Name, Dangerous, "it names a path in $SNAP_DATA: "+who, fix)
		}
	}
}

func mentionsData(text string) bool {
	return strings.Contains(text, "$SNAP_DATA") || strings.Contains(text, "${SNAP_DATA}")
}
