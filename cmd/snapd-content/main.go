// SPDX-License-Identifier: Apache-2.0

// Command snapd-content makes ready what a unit is to be shown of other snaps.
// It is run by snapd-content@UNIT.service before each start of the unit, and
// needs neither the daemon nor its state.
package main

import (
	"fmt"
	"os"

	"endured/dirs"
	"endured/wrappers"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "snapd-content:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 || args[0] != "start" {
		return fmt.Errorf("cannot use arguments %q: snapd-content takes the word start and a unit without its \".service\"", args)
	}
	return wrappers.ReadyContent(args[1], wrappers.Options{Dirs: dirs.New("/")})
}
