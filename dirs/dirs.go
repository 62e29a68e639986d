// SPDX-License-Identifier: Apache-2.0

// Package dirs says where things are under a root directory. The layout is
// snapd's, so that existing tools and the stock client find what they expect.
package dirs

import (
	"fmt"
	"path/filepath"
)

// Dirs is the layout under one root. The zero value is the layout under "/".
type Dirs struct{ root string }

// New returns the layout under root; "" and "/" both mean the real system.
func New(root string) Dirs {
	if root == "/" {
		root = ""
	}
	return Dirs{root: root}
}

// Root returns the root directory, "/" for the real system.
func (d Dirs) Root() string { return d.join("/") }

// Under returns an absolute path of the system as it is below the root.
func (d Dirs) Under(path string) string { return d.join(path) }

func (d Dirs) join(elem ...string) string {
	return filepath.Join(append([]string{"/", d.root}, elem...)...)
}

// Snaps is the directory below which snaps are mounted.
func (d Dirs) Snaps() string { return d.join("snap") }

// Bin holds the launchers of apps.
func (d Dirs) Bin() string { return d.join("snap/bin") }

// Snap holds the mount points of one snap, and its "current" link.
func (d Dirs) Snap(name string) string { return d.join("snap", name) }

// Mount is where one revision is mounted.
func (d Dirs) Mount(name string, rev fmt.Stringer) string {
	return d.join("snap", name, rev.String())
}

// Current is the link to the current revision's mount.
func (d Dirs) Current(name string) string { return d.join("snap", name, "current") }

// AllData holds every snap's data directories.
func (d Dirs) AllData() string { return d.join("var/snap") }

// SnapData holds one snap's data directories.
func (d Dirs) SnapData(name string) string { return d.join("var/snap", name) }

// Data is $SNAP_DATA of one revision.
func (d Dirs) Data(name string, rev fmt.Stringer) string {
	return d.join("var/snap", name, rev.String())
}

// Common is $SNAP_COMMON.
func (d Dirs) Common(name string) string { return d.join("var/snap", name, "common") }

// CurrentData is the link to the current revision's data.
func (d Dirs) CurrentData(name string) string { return d.join("var/snap", name, "current") }

// Lib is the daemon's own directory.
func (d Dirs) Lib() string { return d.join("var/lib/snapd") }

// StateDB is the daemon's database.
func (d Dirs) StateDB() string { return d.join("var/lib/snapd/state.db") }

// Blobs holds the .snap files, readable by root only.
func (d Dirs) Blobs() string { return d.join("var/lib/snapd/snaps") }

// Blob is the .snap file of one revision.
func (d Dirs) Blob(name string, rev fmt.Stringer) string {
	return d.join("var/lib/snapd/snaps", name+"_"+rev.String()+".snap")
}

// Store is the directory that snaps come from unless another one is set.
func (d Dirs) Store() string { return d.join("var/lib/snapd/store") }

// Snapshots holds what "snap remove" saved.
func (d Dirs) Snapshots() string { return d.join("var/lib/snapd/snapshots") }

// Units is where unit files are written.
func (d Dirs) Units() string { return d.join("etc/systemd/system") }

// BusServices is where the system bus looks for what snaps offer to start.
func (d Dirs) BusServices() string { return d.join("var/lib/snapd/dbus-1/system-services") }

// BusPolicy says which names one snap may own on the system bus.
func (d Dirs) BusPolicy(name string) string {
	return d.join("etc/dbus-1/system.d", "snap."+name+".conf")
}

// RunUnits is where drop-ins that must not outlive this boot are written.
func (d Dirs) RunUnits() string { return d.join("run/systemd/system") }

// Run is the daemon's run-time directory.
func (d Dirs) Run() string { return d.join("run/snapd") }

// Unconfined exists where AppArmor profiles have no effect, and says why.
func (d Dirs) Unconfined() string { return d.join("run/snapd/apparmor-off") }

// SwitchMark exists while a snap is between two revisions: its services skip a
// start that the refresh gate failed to hold.
func (d Dirs) SwitchMark(name string) string { return d.join("run/snapd/switch", name+".closed") }

// SealBook is kept from before anything of a revision is sealed until after all
// of it is unsealed again, for as long as namespaces of processes live.
func (d Dirs) SealBook(name string, rev fmt.Stringer) string {
	return d.join("run/snapd/seal", name+"_"+rev.String())
}

// SharedSealed exists while what a revision shares of its data is sealed: who is
// shown it from then on may only read it.
func (d Dirs) SharedSealed(name string, rev fmt.Stringer) string {
	return d.SealBook(name, rev) + ".shared"
}

// AllContent holds, by unit, what services are to be shown of other snaps. Only
// root gets there, and no strict service: it is not in Run, which those see.
func (d Dirs) AllContent() string { return d.join("run/snapd-content") }

// Content is where that of one unit stands ready, by number.
func (d Dirs) Content(unit string) string { return filepath.Join(d.AllContent(), unit) }

// FlagMark is there while files of a revision's data may be flagged immutable.
// It lies on the same file system, so that no loss of power takes the mark and
// leaves a flag.
func (d Dirs) FlagMark(name string, rev fmt.Stringer) string {
	return d.join("var/snap", name, "."+rev.String()+".flagged")
}

// StopReasons holds, by unit, why a service is being stopped.
func (d Dirs) StopReasons() string { return d.join("run/snapd/stop-reason") }

// SystemUnits is where packages install unit files.
func (d Dirs) SystemUnits() string { return d.join("usr/lib/systemd/system") }

// Sockets holds the listeners that PID 1 makes for snaps.
func (d Dirs) Sockets() string { return d.join("run/snapd/sockets") }

// Socket is the REST API's socket.
func (d Dirs) Socket() string { return d.join("run/snapd.socket") }

// SnapSocket is the socket that programs of snaps use, through snapctl.
func (d Dirs) SnapSocket() string { return d.join("run/snapd/snapd-snap.socket") }

// PrivateTmp is the directory that a snap's services see as /tmp.
func (d Dirs) PrivateTmp(name string) string {
	return d.join("tmp/snap-private-tmp/snap." + name + "/tmp")
}

// Profiles holds the text of every AppArmor profile of a snap, by its name.
func (d Dirs) Profiles() string { return d.join("var/lib/snapd/apparmor/profiles") }

// ProfileSets holds what the profiles of each revision are made from.
func (d Dirs) ProfileSets() string { return d.join("var/lib/snapd/apparmor/sets") }

// ProfileCache holds compiled profiles. It may be removed at any time.
func (d Dirs) ProfileCache() string { return d.join("var/cache/apparmor/snapd") }
