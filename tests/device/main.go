// SPDX-License-Identifier: Apache-2.0

// Command device runs private systemd machines on this very host.
//
// A device is systemd as PID 1 in namespaces of its own, over an overlay of the
// host's root: every program of the host is there, nothing that happens inside
// reaches the host. Its writes go to a directory on a tmpfs and, for /var/snap
// and /var/lib/snapd, to an ext4 image; both outlive a kill -9 of its PID 1, so
// "crash" and a second "start" are a reboot without a shutdown. The page cache
// survives with them: it is no model of a power cut.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

const usage = `usage: device VERB …

  start NAME [--ext4 SIZE] [--overlay DIR]… [--keep-upper DIR] [--owner PID]
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
/var/snap and /var/lib/snapd lie on ext4. An overlay is a tree such as "make install DESTDIR=…" leaves, copied over
the root at every start that names it.

$DEVICE_DIR       where devices live, by default /run/endured-devices
$DEVICE_OWNER     default for --owner: clean removes devices whose owner is gone
$DEVICE_OVERLAYS  overlays for every start, separated by colons
`

// exitError carries the exit code of a program that ran inside a device.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

func main() {
	if os.Args[0] == initArg0 {
		// Namespaces and capabilities belong to a thread.
		runtime.LockOSThread()
		insideMain()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var exit *exitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(exit.code)
	default:
		fmt.Fprintf(os.Stderr, "device: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Print(usage)
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("cannot work without root")
	}
	h, err := openHost()
	if err != nil {
		return err
	}
	verb, rest := args[0], args[1:]
	switch verb {
	case "start":
		return h.cmdStart(ctx, rest)
	case "exec":
		return h.cmdExec(rest)
	case "shell":
		return h.cmdShell(rest)
	case "kill":
		return h.cmdKill(rest)
	case "crash":
		return h.cmdCrash(ctx, rest)
	case "reboot":
		return h.cmdReboot(ctx, rest)
	case "stop":
		return h.cmdStop(ctx, rest)
	case "host":
		return h.cmdHost(rest)
	case "list":
		return h.cmdList()
	case "clean":
		return h.cmdClean(ctx, rest)
	}
	return fmt.Errorf("cannot understand %q, try: device help", verb)
}
