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
	output
	fromStore
	dryRun bool
}

// fromStore are the flags of what takes snaps from the store.
type fromStore struct {
	options client.InstallOptions
	store   client.StoreOptions
	risks   [4]bool // in the order of riskNames
	whole   string
}

// riskNames are the channels that have a flag of their own.
func riskNames() []string { return []string{"stable", "candidate", "beta", "edge"} }

func (s *fromStore) flags(c *cobra.Command) {
	s.channelFlags(c)
	f := c.Flags()
	f.BoolVar(&s.options.DevMode, "devmode", false, "Do not enforce confinement")
	f.BoolVar(&s.options.Classic, "classic", false, "Do not confine; use the host's files")
	f.BoolVar(&s.options.JailMode, "jailmode", false, "Enforce confinement")
	f.StringVar(&s.whole, "transaction", "per-snap", "With several snaps: one fails by itself (per-snap), or all with it (all-snaps)")
}

// channelFlags are those that say which revision.
func (s *fromStore) channelFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.store.Channel, "channel", "", "Use this channel, such as latest/edge, in place of latest/stable")
	for i, risk := range riskNames() {
		f.BoolVar(&s.risks[i], risk, false, "Use the channel "+risk)
	}
	f.StringVar(&s.store.Revision, "revision", "", "Use this revision, whatever the channel has")
}

// settle puts the flags together.
func (s *fromStore) settle(names []string) error {
	for i, risk := range riskNames() {
		if !s.risks[i] {
			continue
		}
		if s.store.Channel != "" {
			return usageErrorf("cannot follow several channels: want one of --channel, --stable, --candidate, --beta and --edge")
		}
		s.store.Channel = risk
	}
	switch s.whole {
	case "", "per-snap":
	case "all-snaps":
		s.store.Together = true
	default:
		return usageErrorf("invalid value %q for --transaction: want per-snap or all-snaps", s.whole)
	}
	if s.store.Revision != "" && len(names) != 1 {
		return usageErrorf("cannot use --revision for several snaps: want one name")
	}
	return nil
}

func newInstallCommand(a *app) *cobra.Command {
	cmd := installCommand{app: a}
	c := &cobra.Command{
		Use:   "install NAME|FILE...",
		Short: "Install snaps from the store or from files",
		Long: long(`
Install snaps, from the store by name and from files by path. A file of a snap
that is installed already becomes its new current revision: that is a refresh,
and what happens to its processes is what they declared with refresh-mode. A
file needs --dangerous (or --devmode), since nothing vouches for it.

With --dry-run nothing is installed: it is shown what would happen to every
service.`, exitConflict),
		Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			return cmd.run(c.Context(), args)
		},
	}
	cmd.flags(c)
	f := c.Flags()
	f.BoolVar(&cmd.options.Dangerous, "dangerous", false, "Install a file that nothing vouches for")
	f.BoolVar(&cmd.dryRun, "dry-run", false, "Show what would happen to running services, and do nothing")
	cmd.flag(c)
	cmd.formatFlag(c)
	return c
}

// isFile tells a file from a name, as snapd does.
func isFile(arg string) bool {
	return strings.Contains(arg, "/") || strings.HasSuffix(arg, ".snap") || strings.Contains(arg, ".snap.")
}

func (cmd *installCommand) run(ctx context.Context, args []string) error {
	var names, files []string
	for _, arg := range args {
		if isFile(arg) {
			files = append(files, arg)
		} else {
			names = append(names, arg)
		}
	}
	if err := cmd.settle(args); err != nil {
		return err
	}
	if len(files) > 0 && (cmd.store.Channel != "" || cmd.store.Revision != "") {
		return usageErrorf("cannot use a channel or a revision of the store with a file")
	}
	if cmd.dryRun {
		return cmd.plan(ctx, names, files)
	}
	if len(files) > 0 {
		if err := cmd.installFiles(ctx, files); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return nil
	}
	return cmd.installNames(ctx, names)
}

func (cmd *installCommand) plan(ctx context.Context, names, files []string) error {
	var plans []client.Plan
	for _, f := range files {
		path, err := filepath.Abs(f)
		if err != nil {
			return fmt.Errorf("cannot find %q: %w", f, err)
		}
		p, err := cmd.client.PlanInstallFile(ctx, path, cmd.options)
		if err != nil {
			return cmd.hint(err)
		}
		plans = append(plans, p...)
	}
	if len(names) > 0 {
		p, err := cmd.client.PlanInstallNames(ctx, names, cmd.store, cmd.options)
		if err != nil {
			return err
		}
		plans = append(plans, p...)
	}
	return cmd.showPlans(cmd.output, plans)
}

func (cmd *installCommand) installNames(ctx context.Context, names []string) error {
	id, err := cmd.client.InstallNames(ctx, names, cmd.store, cmd.options)
	if client.IsKind(err, client.KindAlreadyInstalled) {
		fmt.Fprintln(cmd.err, err) // what is wanted is so already
		return nil
	}
	if err != nil {
		return err
	}
	ch, err := cmd.wait(ctx, cmd.waiting, id)
	return cmd.report(ctx, ch, err, "installed")
}

// installFiles sends the files in one request: they are installed in one change.
func (cmd *installCommand) installFiles(ctx context.Context, files []string) error {
	p := cmd.newProgress()
	o := cmd.options
	o.Together = cmd.store.Together
	id, err := cmd.client.InstallFiles(ctx, files, o, func(path string, done, total int64) { p.transfer("Sending", filepath.Base(path), done, total) })
	p.finish()
	if err != nil {
		return cmd.hint(err)
	}
	ch, err := cmd.wait(ctx, cmd.waiting, id)
	what := "installed"
	if err == nil && len(ch.Tasks) == 0 {
		what = "installed already"
		if len(ch.SnapNames()) == 0 { // several files, of which none is news
			fmt.Fprintln(cmd.err, "Every file is installed already.")
		}
	}
	return cmd.report(ctx, ch, err, what)
}

// report tells how a change went that has brought snaps: those that came are
// named also when others did not.
func (a *app) report(ctx context.Context, ch *client.Change, failure error, what string) error {
	if ch == nil {
		return done(failure)
	}
	came := ch.Succeeded()
	if len(came) > 0 {
		snaps, err := a.client.Snaps(ctx, came, false)
		if err != nil {
			return errors.Join(failure, err)
		}
		a.printSnaps(snaps, what)
		a.tellPath(snaps)
		a.tellRecord(ch)
	}
	return failure
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
		from := ""
		if s.Channel != "" && s.Channel != "latest/stable" {
			from = " (" + s.Channel + ")"
		}
		a.say("%s%s %s %s", s.Name, printable(from), printable(orDash(s.Version)), what)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
