// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"endured/overlord/lifecycle"
	"endured/snap"
)

// The settings that explain and lint look at.
const (
	modeSetting    = "refresh-mode"
	ceilingSetting = "refresh.stop-timeout-max"
)

func newExplainCommand(a *app) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "explain SNAP|FILE|DIR",
		Short: "Say what each event does to each service",
		Long: long(`
Say, in a sentence each, what a refresh, a stop, a restart, disabling, removing,
a shutdown and a crash do to the services of an installed snap, of a file, or of
an unpacked snap; and when its hooks are run. For an installed snap the
operator's settings count, as far as the caller may read them: root may.`),
		Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			info, installed, err := a.readSnap(args[0])
			if err != nil {
				return err
			}
			over, ceiling := lifecycle.Override(nil), time.Duration(0)
			if installed {
				over, ceiling = a.settings(c.Context(), info.Name)
			}
			var limits map[string][]string
			if installed {
				limits = a.sealLimits(c.Context(), info.Name)
			}
			list, err := lifecycle.Sentences(info, over, ceiling, limits)
			if err != nil {
				return err
			}
			list = append(list, lifecycle.HookSentences(info)...)
			if done, err := o.json(a, list); done || err != nil {
				return err
			}
			a.printSentences(info, list)
			return nil
		},
	}
	o.formatFlag(c)
	return c
}

func (a *app) printSentences(info *snap.Info, list []lifecycle.Sentence) {
	if len(info.Services()) == 0 {
		a.say("%s has no services. A refresh neither waits for its apps nor ends them.", info.Name)
	}
	last := ""
	for _, s := range list {
		what := info.Name + "." + s.App
		if s.Hook != "" {
			what = "hook " + s.Hook
		}
		if what != last {
			if last != "" || len(info.Services()) == 0 {
				fmt.Fprintln(a.out)
			}
			last = what
			a.say("%s:", what)
		}
		for i, line := range wrap(s.Text, min(a.width(), 100)-4) {
			indent := "    "
			if i == 0 {
				indent = "  - "
			}
			a.say("%s", indent+printable(line))
		}
	}
}

// readSnap reads a file, the directory of an unpacked snap, or an installed one.
func (a *app) readSnap(arg string) (info *snap.Info, installed bool, err error) {
	st, err := os.Stat(arg)
	switch {
	case err == nil && st.IsDir():
		info, err = snap.CheckSkeleton(arg)
		return info, false, err
	case err == nil || isFile(arg):
		f, err := snap.Open(arg)
		if err != nil {
			return nil, false, err
		}
		defer f.Close()
		return f.Info(), false, nil
	}
	if err := snap.CheckName(arg); err != nil {
		return nil, false, err
	}
	raw, err := os.ReadFile(a.dirs.Current(arg) + "/meta/snap.yaml")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("snap %q is not installed, and there is no such file", arg)
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot read snap %q: %w", arg, err)
	}
	info, err = snap.Parse(raw)
	if err != nil {
		return nil, false, err
	}
	if hooks, err := os.ReadDir(a.dirs.Current(arg) + "/meta/hooks"); err == nil {
		for _, h := range hooks {
			info.AddHooks(h.Name())
		}
	}
	if link, err := os.Readlink(a.dirs.Current(arg)); err == nil {
		if rev, err := snap.ParseRevision(link); err == nil {
			info.Revision = rev
		}
	}
	return info, true, nil
}

// settings are the operator's, as far as this user may see them.
func (a *app) settings(ctx context.Context, name string) (lifecycle.Override, time.Duration) {
	over := lifecycle.Override{}
	if conf, err := a.client.Conf(ctx, "system", []string{modeSetting}); err == nil {
		var modes map[string]map[string]string
		if json.Unmarshal(conf[modeSetting], &modes) == nil {
			for app, word := range modes[name] {
				over[app] = snap.RefreshMode(word)
			}
		}
	}
	return over, a.ceiling(ctx)
}

// sealLimits says, by service, why what a refresh leaves of it is kept off its
// old data only partly.
func (a *app) sealLimits(ctx context.Context, name string) map[string][]string {
	services, err := a.client.Services(ctx, []string{name})
	if err != nil {
		return nil // the daemon does not run: what the snap itself says is shown
	}
	out := map[string][]string{}
	for _, s := range services {
		out[s.Name] = s.SealLimits
	}
	return out
}

// ceiling is the operator's bound on stops, 0 if there is none or it cannot be seen.
func (a *app) ceiling(ctx context.Context) time.Duration {
	conf, err := a.client.Conf(ctx, "system", []string{ceilingSetting})
	var text string
	if err != nil || json.Unmarshal(conf[ceilingSetting], &text) != nil {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0
	}
	return d
}

func newLintCommand(a *app) *cobra.Command {
	var o output
	var ceiling time.Duration
	c := &cobra.Command{
		Use:   "lint FILE|DIR",
		Short: "Find what in a snap does nothing, or does harm",
		Long: long(`
Check a file, or the directory of an unpacked snap. Found is what would be
refused, what has no effect, and what is dangerous across a refresh, each with
its key in snap.yaml and what to do about it.`, "A snap with findings exits with 1."),
		Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := lint(args[0], ceiling)
			if err != nil {
				return err
			}
			done, err := o.json(a, list)
			if err != nil {
				return err
			}
			for _, f := range list {
				if done {
					break
				}
				a.say("%s: %s: %s", orDash(f.Key), f.Severity, printable(f.Message))
				if f.Fix != "" {
					a.say("    %s.", printable(title1(f.Fix)))
				}
			}
			switch {
			case len(list) > 0:
				return fmt.Errorf("%s found", counted(len(list), "problem"))
			case !done:
				fmt.Fprintln(a.out, "Nothing found.")
			}
			return nil
		},
	}
	c.Flags().DurationVar(&ceiling, "stop-timeout-max", 0, "Check against this limit on stops, such as 10s")
	o.formatFlag(c)
	return c
}

// The severities of what is not about modes.
const (
	refused = "refused"
	noted   = "noted"
)

// lint collects what reading, the checks of an installation, and the rules
// about modes find.
func lint(path string, ceiling time.Duration) ([]lifecycle.Finding, error) {
	list := []lifecycle.Finding{}
	problems := func(ps []snap.Problem) {
		for _, p := range ps {
			list = append(list, lifecycle.Finding{Key: p.Key, Severity: refused, Message: p.Message})
		}
	}
	info, special, err := openForLint(path)
	var invalid *snap.InvalidError
	var files *snap.TreeError
	switch {
	case errors.As(err, &invalid):
		problems(invalid.Problems)
		return list, nil
	case errors.As(err, &files):
		problems(files.Problems)
	case err != nil:
		return nil, err
	}
	var unsupported *snap.UnsupportedError
	if err := info.Supported(); errors.As(err, &unsupported) {
		problems(unsupported.Problems)
	}
	list = append(list, lifecycle.Lint(info, ceiling)...)
	if text := snap.Powerless(special); text != "" {
		list = append(list, lifecycle.Finding{Severity: lifecycle.Ineffective, Message: text, Fix: "pack without these bits; what needs more rights asks for it with plugs"})
	}
	for _, n := range info.Notes {
		key, message, ok := strings.Cut(n, ": ")
		if !ok {
			key, message = "", n
		}
		list = append(list, lifecycle.Finding{Key: key, Severity: noted, Message: message})
	}
	return list, nil
}

// openForLint reads a snap and checks its files; with a *snap.TreeError all
// else is there.
func openForLint(path string) (info *snap.Info, special []snap.Special, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read %q: %w", path, errors.Unwrap(err))
	}
	if st.IsDir() {
		if special, err = snap.SpecialsIn(path); err == nil {
			info, err = snap.CheckSkeleton(path)
		}
		return info, special, err
	}
	f, err := snap.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if special, err = f.Specials(); err == nil {
		err = f.CheckFiles()
	}
	return f.Info(), special, err
}
