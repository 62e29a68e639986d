// SPDX-License-Identifier: Apache-2.0

// Command snapctl is how a program of a snap talks to the daemon: it passes its
// arguments on and prints the answer. Which snap it belongs to, the daemon
// finds out by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"endured/client"
)

const usage = `Usage: snapctl COMMAND [ARGUMENT...]

Talk to the snap daemon from a service, an app or a hook of a snap.

  get [-d|-t] KEY...                  print options of the snap
  set [-s|-t] KEY=VALUE...            change them; KEY! takes one away
  unset KEY...                        take them away
  services [SNAP.SERVICE...]          list the services of the snap
  start [--enable] SNAP[.SERVICE]...  start them; a hook is answered at once, and
  stop [--disable] SNAP[.SERVICE]...  it is done when the hook's change is
  restart [--reload] SNAP[.SERVICE]...
  is-connected PLUG|SLOT              exit with 0 if it is, with 1 if not
  set-health STATUS [MESSAGE] [--code=CODE]
                                      okay, waiting, blocked or error
  lifecycle [-d]                      which event goes on, between which
                                      revisions, and what runs from an old one
`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 || slices.Contains([]string{"-h", "--help", "help"}, args[0]) {
		fmt.Print(usage)
		return 0
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	r, err := call(ctx, client.New(client.Config{Socket: client.SnapSocket, UserAgent: "snapctl"}), args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		return 1
	}
	fmt.Fprint(os.Stdout, r.Stdout)
	fmt.Fprint(os.Stderr, r.Stderr)
	return r.ExitCode
}

// patience is how long a daemon that is away may take to come back.
const patience = 30 * time.Second

// call makes the request until a daemon answers. One that was cut off may have
// been carried out: only what does no harm twice is asked again.
func call(ctx context.Context, c *client.Client, args []string) (*client.SnapctlResult, error) {
	acts := slices.Contains([]string{"start", "stop", "restart"}, args[0])
	for {
		r, err := c.Snapctl(context.WithoutCancel(ctx), args)
		var down *client.ConnectError
		if !errors.As(err, &down) || acts && !errors.Is(err, syscall.ECONNREFUSED) {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}
