// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"os"
	"path/filepath"

	"endured/osutil"
)

// swiftMoves makes the next moves of processes between cgroups fast, for some
// ten milliseconds: without it PID 1 spends most of the gap in putting the new
// main into its cgroup.
//
// The kernel guards such moves by a lock whose first writer waits for an RCU
// grace period (7 to 14 ms on the machines at hand), and whose next ones, if
// they come soon, do not. So the daemon moves itself to where it is, before the
// gap begins, and once more, at no cost, before it ends.
func (m *Manager) swiftMoves() {
	own, err := osutil.CgroupOf(os.Getpid())
	if err == nil {
		err = os.WriteFile(filepath.Join(m.CgroupRoot, own, "cgroup.procs"), []byte("0"), 0)
	}
	if err != nil {
		m.Log.Debug("the gap will be longer than it need be", "err", err)
	}
}

// swift is swiftMoves where anything will be started.
func (sw *Switch) swift(c course) {
	if len(c.wished(up)) > 0 {
		sw.m.swiftMoves()
	}
}
