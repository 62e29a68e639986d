// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"endured/client"
)

type installCommand struct {
	*app
	waiting
	options client.InstallOptions
	dryRun  bool
}

func newInstallCommand(a *app) *cobra.Command {
	cmd := installCommand{app: a}
	c := &cobra.Command{
		Use:   "install FILE...",
		Short: "Install snaps from files, or refresh installed ones",
		Long: long(`
Install each .snap file. A file of a snap that is installed already becomes its
new current revision: that is a refresh, and what happens to its processes is
what they declared with refresh-mode. A file needs --dangerous (or --devmode),
since nothing vouches for it.

With --dry-run nothing is installed: it is shown what would happen to every
service.`, exitConflict),
		Args: usage(1, -1, "<file> (at least 1 argument)"),
		RunE: func(c *cobra.Command, args []string) error {
			for _, arg := range args {
				if err := cmd.install(c.Context(), arg); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&cmd.options.Dangerous, "dangerous", false, "Install a file that nothing vouches for")
	f.BoolVar(&cmd.options.DevMode, "devmode", false, "Install without enforced confinement")
	f.BoolVar(&cmd.options.Classic, "classic", false, "Install without confinement, on the host's files")
	f.BoolVar(&cmd.options.JailMode, "jailmode", false, "Install with enforced confinement")
	f.BoolVar(&cmd.dryRun, "dry-run", false, "Show what would happen to running services, and do nothing")
	cmd.flag(c)
	return c
}

// isFile tells a file from a name, as snapd does.
func isFile(arg string) bool {
	return strings.Contains(arg, "/") || strings.HasSuffix(arg, ".snap") || strings.Contains(arg, ".snap.")
}

func (cmd *installCommand) install(ctx context.Context, arg string) error {
	if !isFile(arg) {
		_, err := cmd.client.InstallName(ctx, arg, cmd.options)
		return err
	}
	if cmd.dryRun {
		path, err := filepath.Abs(arg)
		if err != nil {
			return fmt.Errorf("cannot find %q: %w", arg, err)
		}
		plans, err := cmd.client.PlanInstallFile(ctx, path, cmd.options)
		if err != nil {
			return cmd.hint(err)
		}
		cmd.printPlans(plans)
		return nil
	}
	p := cmd.newProgress()
	name := filepath.Base(arg)
	id, err := cmd.client.InstallFile(ctx, arg, cmd.options, func(done, total int64) { p.upload(name, done, total) })
	p.finish()
	if err != nil {
		return cmd.hint(err)
	}
	ch, err := cmd.wait(ctx, cmd.waiting, id)
	if err != nil {
		return done(err)
	}
	what := "installed"
	if len(ch.Tasks) == 0 {
		what = "installed already"
	}
	snaps, err := cmd.client.Snaps(ctx, ch.SnapNames(), false)
	if err != nil {
		return err
	}
	cmd.printSnaps(snaps, what)
	cmd.tellPath(snaps)
	return nil
}

// hint says what to do about a file that nothing vouches for.
func (cmd *installCommand) hint(err error) error {
	var refusal *client.Error
	if errors.As(err, &refusal) && strings.HasPrefix(refusal.Message, "cannot find signatures") && !cmd.options.Dangerous {
		return fmt.Errorf("%w (if you trust it, repeat the command with --dangerous)", err)
	}
	return err
}

// tellPath mentions that the commands of snaps will not be found.
func (a *app) tellPath(snaps []client.Snap) {
	if slices.Contains(filepath.SplitList(a.getenv("PATH")), a.dirs.Bin()) {
		return
	}
	for _, s := range snaps {
		if slices.ContainsFunc(s.Apps, func(ai client.AppInfo) bool { return ai.Daemon == "" }) {
			fmt.Fprintf(a.err, "Warning: %s is not in your $PATH: a new session will find the commands of snaps.\n", a.dirs.Bin())
			return
		}
	}
}

// printSnaps tells what became of snaps: "NAME VERSION WHAT".
func (a *app) printSnaps(snaps []client.Snap, what string) {
	for _, s := range snaps {
		fmt.Fprintf(a.out, "%s %s %s\n", s.Name, printable(orDash(s.Version)), what)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
