// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"endured/client"
	"endured/osutil"
	"endured/overlord/state"
	"endured/snap"
)

func getSystemInfo(c *call) *response {
	dirs := c.d.options.Dirs
	info := client.SystemInfo{
		Series: "16", Version: c.d.options.Version, OnClassic: true,
		OSRelease: osRelease(dirs.Under("/etc/os-release"), dirs.Under("/usr/lib/os-release")),
		// What a system without snapd's kernel patches has there.
		Confinement:  "partial",
		Architecture: snap.HostArch(),
		Locations:    client.Locations{SnapMountDir: dirs.Snaps(), SnapBinDir: dirs.Bin()},
	}
	info.Refresh.Timer, info.Refresh.Hold = c.d.backend.RefreshTimes()
	if info.Refresh.Hold == "forever" { // clients read a time there
		info.Refresh.Hold = client.Forever().Format(time.RFC3339)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		info.KernelVersion = unix.ByteSliceToString(uts.Release[:])
	}
	return sync200(info)
}

// osRelease reads the first of the files that exists.
func osRelease(paths ...string) client.OSRelease {
	out := client.OSRelease{ID: "linux"}
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			key, value, _ := strings.Cut(lines.Text(), "=")
			value = strings.Trim(value, `"'`)
			switch key {
			case "ID":
				out.ID = value
			case "VERSION_ID":
				out.VersionID = value
			}
		}
		break
	}
	return out
}

// warnings lists the pending warnings, or all.
func (d *Daemon) warnings(all bool) ([]state.Warning, error) {
	var out []state.Warning
	err := d.backend.State().View(func(tx *state.Tx) error {
		for _, w := range tx.Warnings() {
			if all || w.Pending() {
				out = append(out, w)
			}
		}
		return nil
	})
	return out, err
}

// warningsSummary counts the pending warnings and tells when the last was added.
func (d *Daemon) warningsSummary() (count int, last time.Time) {
	list, err := d.warnings(false)
	if err != nil {
		d.options.Log.Error("cannot read warnings", "err", err)
		return 0, time.Time{}
	}
	for _, w := range list {
		if w.LastAdded.After(last) {
			last = w.LastAdded
		}
	}
	return len(list), last
}

func getWarnings(c *call) *response {
	all := false
	switch sel := c.URL.Query().Get("select"); sel {
	case "", "pending":
	case "all":
		all = true
	default:
		return badSelect(sel, "pending", "all")
	}
	list, err := c.d.warnings(all)
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	out := []client.Warning{}
	for _, w := range list {
		out = append(out, warningJSON(c, w))
	}
	return sync200(out)
}

func warningJSON(c *call, w state.Warning) client.Warning {
	return client.Warning{
		Message: c.text(w.Message), FirstAdded: w.FirstAdded, LastAdded: w.LastAdded, LastShown: optionalTime(w.LastShown),
		ExpireAfter: w.ExpireAfter.String(), RepeatAfter: w.RepeatAfter.String(),
	}
}

// postWarnings quiets warnings; the result is how many.
func postWarnings(c *call) *response {
	var r struct {
		Action    string    `json:"action"`
		Timestamp time.Time `json:"timestamp"`
	}
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	if r.Action != "okay" {
		return badRequest("cannot %s warnings: they can be okayed, no more", quoted(r.Action))
	}
	n := 0
	err := c.d.backend.State().Update(func(tx *state.Tx) error {
		n = tx.Okay(r.Timestamp)
		return nil
	})
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	return sync200(n)
}

// postTrack puts the calling process into a scope. Everybody may ask, for
// itself: the process is the socket's peer and nothing in the request names it.
func postTrack(c *call) *response {
	var r client.TrackRequest
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	if err := snap.CheckName(r.Snap); err != nil {
		return badRequest("%v", err)
	}
	if err := snap.CheckAppName(r.App); err != nil {
		return badRequest("%v", err)
	}
	if err := stillThere(c.peer); err != nil {
		return failed(http.StatusForbidden, "", err.Error())
	}
	tracked, err := c.d.backend.Track(c.Context(), c.peer.PID, r.Snap, r.App)
	if err != nil {
		return failure(err)
	}
	out := client.Tracked{Revision: tracked.Revision.String(), Sandbox: &client.Sandbox{
		Strict: tracked.Sandbox.Strict, Capabilities: tracked.Sandbox.Capabilities, NoNewPrivileges: tracked.Sandbox.NoNewPrivileges,
	}}
	for _, m := range tracked.Sandbox.Mounts {
		out.Sandbox.Mounts = append(out.Sandbox.Mounts, client.SandboxMount(m))
	}
	for _, m := range tracked.Sandbox.Content {
		out.Sandbox.Content = append(out.Sandbox.Content, client.SandboxMount(m))
	}
	return sync200(out)
}

// ticksPerSecond is the kernel's USER_HZ, the same on every architecture that
// snaps exist for.
const ticksPerSecond = 100

// stillThere makes sure that the peer's number is not by now another
// process's: the credentials of a socket are those of the moment of connect.
func stillThere(p Peer) error {
	if p.PID <= 0 {
		return fmt.Errorf("cannot identify the caller: its process is not visible from here")
	}
	started, err := osutil.StartTime(p.PID)
	if err != nil {
		return fmt.Errorf("cannot identify the caller: %w", err)
	}
	if time.Duration(started)*(time.Second/ticksPerSecond) > p.Accepted {
		return fmt.Errorf("cannot identify the caller: process %d is not it any longer", p.PID)
	}
	uid, err := effectiveUID(p.PID)
	if err != nil {
		return fmt.Errorf("cannot identify the caller: %w", err)
	}
	if uid != p.UID {
		return fmt.Errorf("cannot identify the caller: process %d has changed its user", p.PID)
	}
	return nil
}

func effectiveUID(pid int) (uint32, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) >= 3 && f[0] == "Uid:" {
			uid, err := strconv.ParseUint(f[2], 10, 32)
			return uint32(uid), err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no Uid", pid)
}
