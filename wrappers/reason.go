// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"endured/dirs"
	"endured/osutil"
	"endured/snap"
	"endured/systemd"
)

// StopReasonUnit is the unit that stops before every service at a shutdown,
// and then says so to their stop commands.
const StopReasonUnit = "snapd-stop-reason.service"

// StopReason is what a stop-command and a post-stop-command learn from their
// environment. systemd reads it anew for each Exec line. Without one they see
// SNAP_STOP_REASON=external and none of the other variables: not snapd stops
// the service, or it ended by itself.
type StopReason struct {
	Reason string        // SNAP_STOP_REASON: "refresh", "stop", …
	From   snap.Revision // SNAP_STOP_FROM_REVISION, that is stopped
	To     snap.Revision // SNAP_STOP_TO_REVISION, that runs afterwards; empty if none will
	Change string        // SNAP_STOP_CHANGE_ID
}

// Env returns the variables, "NAME=VALUE" each.
func (r StopReason) Env() []string {
	revision := func(rev snap.Revision) string {
		if rev.Unset() {
			return ""
		}
		return rev.String()
	}
	return []string{
		"SNAP_STOP_REASON=" + r.Reason,
		"SNAP_STOP_FROM_REVISION=" + revision(r.From),
		"SNAP_STOP_TO_REVISION=" + revision(r.To),
		"SNAP_STOP_CHANGE_ID=" + r.Change,
	}
}

// TellsStop tells whether a service has commands that a stop runs. Only such a
// service has a stop reason in its environment.
func TellsStop(app *snap.App) bool {
	return app != nil && (app.StopCommand != "" || app.PostStopCommand != "")
}

// WriteStopReason makes the next stop of a unit see the reason. That stop
// consumes it, so that a main process that is started next does not.
func WriteStopReason(d dirs.Dirs, unit string, r StopReason) error {
	path := filepath.Join(d.StopReasons(), unit)
	err := os.MkdirAll(d.StopReasons(), 0o755)
	if err == nil {
		err = osutil.WriteFile(path, []byte(strings.Join(r.Env(), "\n")+"\n"), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot tell %s why it is stopped: %w", unit, err)
	}
	return nil
}

// ForgetStopReason takes back a reason that no stop has consumed.
func ForgetStopReason(d dirs.Dirs, unit string) error {
	err := os.Remove(filepath.Join(d.StopReasons(), unit))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot take back why %s is stopped: %w", unit, err)
	}
	return nil
}

// StopReasons lists the units that have a reason.
func StopReasons(d dirs.Dirs) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(d.StopReasons(), "snap.*"))
	for n, p := range paths {
		paths[n] = filepath.Base(p)
	}
	return paths, err
}

// reasonOptions let the commands of a service see its stop reason. What a
// shutdown says counts more than what snapd is doing at that moment.
func reasonOptions(app *snap.App) []systemd.Option {
	dir := system().StopReasons()
	return []systemd.Option{
		opt("Environment", "SNAP_STOP_REASON=external"),
		opt("EnvironmentFile", "-"+filepath.Join(dir, app.Unit())),
		opt("EnvironmentFile", "-"+filepath.Join(dir, "shutdown")),
	}
}

// consumeLine is the ExecStopPost= of ours, after the author's: it is done
// before a restart starts the next main process. "+" spares it the profile and
// the paths that are read-only; the service's own /run it has to leave by itself.
func consumeLine(app *snap.App) string {
	return "-+/usr/bin/nsenter --mount=/proc/1/ns/mnt /bin/rm -f " + filepath.Join(system().StopReasons(), app.Unit())
}
