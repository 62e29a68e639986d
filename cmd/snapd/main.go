// SPDX-License-Identifier: Apache-2.0

// Command snapd is the daemon: it serves the REST API on its socket and
// carries out changes. It is started by snapd.service and takes no arguments.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "snapd:", err)
		os.Exit(1)
	}
}
