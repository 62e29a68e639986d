// SPDX-License-Identifier: Apache-2.0

// Command vm runs virtual machines for the suites that need a kernel of their
// own: AppArmor, an ext4 root, power cuts.
//
// A machine is QEMU without KVM. It goes on from a state that was saved once,
// after Debian's cloud kernel and systemd had booted, which takes less than a
// second; it boots from another that was saved in the initial ramdisk, so that
// a boot is systemd's alone. The image is made from Debian's packages the first
// time and kept in /var/cache/endured-vm.
package main

import (
	"fmt"
	"os"

	"endured/tests/lib/machines"
	"endured/tests/vm/guest"
)

const usage = `usage: vm VERB …

  prepare [--again]   make the image, if it is not in the cache; prints its directory
  start NAME [--cold] [--overlay DIR]… [--project DIR] [--owner PID] [--nice N] [--timeout DURATION]
                      a new VM, from the saved state or, --cold, booted; or boot one that is down from its disk
  exec NAME [--group G] [--cwd DIR] [--env K=V]… [--file REMOTE=LOCAL]… [--timeout DURATION] CMD [ARG]…
                      run a command inside, with this stdin, stdout, stderr and exit code
  shell NAME          a shell inside
  kill NAME G         kill every process that "exec --group G" started
  put NAME LOCAL REMOTE
  get NAME REMOTE LOCAL
                      copy a file
  crash NAME          cut the power: SIGKILL for qemu; "start" boots it again
  reboot NAME         shut down in order and boot again
  stop NAME [--order] forget the VM and its disk, --order shuts it down first
  host NAME           print the directory with its console, journal and qemu.log
  list                one line per VM
  clean [--all]       remove what dead runs left

Inside, /srv/endured is a copy-on-write view of the project. An overlay is a tree such as "make install DESTDIR=…"
leaves, copied over the root of a new VM.

$VM_DIR           where VMs live, by default /run/endured-vms
$DEVICE_OWNER     default for --owner: clean removes VMs whose owner is gone
$VM_NICE          default for --nice
$DEVICE_OVERLAYS  overlays for every new VM, separated by colons
`

func main() {
	switch os.Args[0] {
	case guest.InitPath:
		guest.Init()
	case agentPath:
		fmt.Fprintln(os.Stderr, guest.Agent())
		os.Exit(1)
	}
	machines.Main("vm", usage, verbs)
}

func verbs() (map[string]machines.Verb, error) {
	h, err := openHost()
	if err != nil {
		return nil, err
	}
	return map[string]machines.Verb{
		"prepare": h.cmdPrepare, "start": h.cmdStart, "exec": h.cmdExec, "shell": h.cmdShell, "kill": h.cmdKill,
		"put": h.cmdPut, "get": h.cmdGet, "crash": h.cmdCrash, "reboot": h.cmdReboot, "stop": h.cmdStop,
		"host": h.cmdHost, "list": h.cmdList, "clean": h.cmdClean,
	}, nil
}
