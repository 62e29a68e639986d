// SPDX-License-Identifier: Apache-2.0

// Command device runs private systemd machines on this very host.
//
// A device is systemd as PID 1 in namespaces of its own, over an overlay of the
// host's root: every program of the host is there, nothing that happens inside
// reaches the host. Its writes go to a directory on a tmpfs and, for /var/snap
// and /var/lib/snapd, to a disk of its own; both outlive a kill -9 of its PID 1, so
// "crash" and a second "start" are a reboot without a shutdown. The page cache
// survives with them: it is no model of a power cut.
package main

import (
	"os"
	"runtime"

	"endured/tests/lib/machines"
)

const usage = `usage: device VERB …

  start NAME [--disk SIZE] [--fs TYPE] [--overlay DIR]… [--keep-upper DIR] [--owner PID]
             [--project DIR] [--no-wait] [--timeout DURATION]
                      boot a device, or boot a crashed one again over what it left
  exec NAME [--group G] [--cwd DIR] [--env K=V]… [--file /srv/host/REMOTE=LOCAL]… CMD [ARG]…
                      run a command inside, with this stdin, stdout and exit code
  shell NAME          a login shell inside
  kill NAME G         kill every process that "exec --group G" started
  crash NAME          kill -9 its PID 1; files and enablement are kept
  reboot NAME         shut down in order and boot again over the same files
  stop NAME [--force] shut down and forget its files
  host NAME           print the directory that is /srv/host inside
  list                one line per device
  clean [--all]       remove what dead runs left: devices, cgroups, directories

Inside, /srv/endured is a copy-on-write view of the project, /srv/host a directory shared with the host, and
/var/snap and /var/lib/snapd lie on a disk of their own, with ext4 or what --fs says. An overlay is a tree such as
"make install DESTDIR=…" leaves, copied over the root at every start that names it.

$DEVICE_DIR       where devices live, by default /run/endured-devices
$DEVICE_FS        default for --fs
$DEVICE_OWNER     default for --owner: clean removes devices whose owner is gone
$DEVICE_OVERLAYS  overlays for every start, separated by colons
`

func main() {
	if os.Args[0] == initArg0 {
		// Namespaces and capabilities belong to a thread.
		runtime.LockOSThread()
		insideMain()
		return
	}
	machines.Main("device", usage, verbs)
}

func verbs() (map[string]machines.Verb, error) {
	h, err := openHost()
	if err != nil {
		return nil, err
	}
	return map[string]machines.Verb{
		"start": h.cmdStart, "exec": h.cmdExec, "shell": h.cmdShell, "kill": h.cmdKill, "crash": h.cmdCrash,
		"reboot": h.cmdReboot, "stop": h.cmdStop, "host": h.cmdHost, "list": h.cmdList, "clean": h.cmdClean,
	}, nil
}
