// SPDX-License-Identifier: Apache-2.0

// Command snap is the command line. Each command is made by a function in a
// file of its own, and commands lists them all. What the daemon says is passed
// on as it is; hints about what to try next are added here.
package main

import (
	"context"
	"os"
	"path/filepath"

	"endured/client"
)

// version is set by the linker.
var version = client.Version

func main() {
	a := newApp()
	if name := filepath.Base(os.Args[0]); name != "snap" {
		// Invoked through a link in /snap/bin.
		os.Exit(a.exit(a.runApp(context.Background(), name, os.Args[1:])))
	}
	os.Exit(a.execute(context.Background(), os.Args[1:]))
}
