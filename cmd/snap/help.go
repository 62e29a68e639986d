// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"endured/client"
)

// category is a line of the short help: commands that belong together.
type category struct {
	title    string
	commands string
}

// categories are snapd's, as far as there are such commands.
func categories() []category {
	return []category{
		{"Basics", "find, info, install, remove, list"},
		{"...more", "refresh, revert, switch, disable, enable, run, download"},
		{"History", "changes, tasks, abort, watch"},
		{"Daemons", "services, start, stop, restart, logs"},
		{"Permissions", "connections, interface, connect, disconnect"},
		{"Configuration", "get, set, unset"},
		{"Development", "pack, lint, explain"},
		{"Other", "warnings, okay, version, debug"},
	}
}

// shortHelp is what "snap" and "snap help" print.
func (a *app) shortHelp(root *cobra.Command) {
	fmt.Fprintf(a.out, "%s\n\nUsage: snap COMMAND [OPTION...] [ARGUMENT...]\n\nCommands, by what they are for:\n\n", root.Long)
	width := 0
	for _, c := range categories() {
		width = max(width, len(c.title))
	}
	for _, c := range categories() {
		fmt.Fprintf(a.out, "  %*s: %s\n", width, c.title, c.commands)
	}
	fmt.Fprint(a.out, "\n'snap help COMMAND' tells more about one, 'snap help --all' lists them with a line each.\n")
}

// setHelp makes help of one command cobra's, and that of all commands ours.
func (a *app) setHelp(root *cobra.Command) {
	whole := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if c == root {
			a.shortHelp(root)
			return
		}
		whole(c, args)
	})
	all := false
	help := &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Tell what a command does",
		Long:  long("Tell what a command does, or with --all what each does in a line."),
		RunE: func(_ *cobra.Command, args []string) error {
			if all {
				whole(root, nil)
				return nil
			}
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usageErrorf("cannot find a command %q: 'snap help --all' lists them", strings.Join(args, " "))
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
	help.Flags().BoolVar(&all, "all", false, "List all commands, a line each")
	root.SetHelpCommand(help)
}

// newManCommand writes the manual pages; 'make install' runs it.
func newManCommand(_ *app, root func() *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages",
		Long:   long("Write the manual pages of all commands, snap.1 and snap-COMMAND.1, into DIR."),
		Hidden: true,
		Args:   usage(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("cannot make the directory of manual pages: %w", err)
			}
			r := root()
			r.DisableAutoGenTag = true
			if err := doc.GenManTree(r, &doc.GenManHeader{Title: "SNAP", Section: "1", Source: "endured"}, args[0]); err != nil {
				return fmt.Errorf("cannot write manual pages in %s: %w", filepath.Clean(args[0]), err)
			}
			return nil
		},
	}
}

// completions says what the words after a command are.
func (a *app) completions(root *cobra.Command) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "list", "remove", "refresh", "revert", "enable", "disable", "switch", "changes", "get", "set", "unset", "explain":
			c.ValidArgsFunction = a.completeSnaps
		case "start", "stop", "restart", "logs", "services":
			c.ValidArgsFunction = a.completeServices
		case "tasks", "watch", "abort":
			c.ValidArgsFunction = a.completeChanges
		case "install", "info", "download":
			c.ValidArgsFunction = a.completeStore
		}
	}
}

func (a *app) completeSnaps(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	snaps, err := a.client.Snaps(c.Context(), nil, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, s := range snaps {
		out = append(out, s.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeServices(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	services, err := a.client.Services(c.Context(), nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, s := range services {
		out = append(out, s.Snap+"."+s.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeChanges(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	list, err := a.client.Changes(c.Context(), client.ChangesAll, "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, ch := range list {
		out = append(out, ch.ID+"\t"+printable(ch.Summary))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeStore offers names of the store, and files.
func (a *app) completeStore(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if isFile(word) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	list, err := a.client.Find(c.Context(), "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var out []string
	for _, s := range list {
		out = append(out, s.Name)
	}
	return out, cobra.ShellCompDirectiveDefault
}
