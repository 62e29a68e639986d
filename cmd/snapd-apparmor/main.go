// SPDX-License-Identifier: Apache-2.0

// Command snapd-apparmor loads the AppArmor profiles of all snaps. It is run
// at boot by snapd.apparmor.service, before anything of a snap starts, and
// needs neither the daemon nor its state.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"endured/dirs"
	"endured/interfaces/apparmor"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "snapd-apparmor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 || args[0] != "start" {
		return fmt.Errorf("cannot use arguments %q: snapd-apparmor takes the word start", args)
	}
	root := dirs.New("/")
	store := apparmor.NewStore(apparmor.Config{
		Dirs: root, Kernel: apparmor.HostKernel(root), Compiler: apparmor.HostParser(root),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err := store.WhyNot(); err != nil {
		fmt.Println("nothing is loaded:", err)
		return nil
	}
	return store.Restore(ctx)
}
