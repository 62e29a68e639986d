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
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage: snap COMMAND [OPTION...] [ARGUMENT...]\n\nCommands, by what they are for:\n\n", root.Long)
	width := 0
	for _, c := range categories() {
		width = max(width, len(c.title))
	}
	for _, c := range categories() {
		fmt.Fprintf(&b, "  %*s: %s\n", width, c.title, c.commands)
	}
	b.WriteString("\n'snap help COMMAND' tells more about one, 'snap help --all' lists them, a line each.\n")
	for _, line := range wrap(b.String(), a.helpWidth()) {
		fmt.Fprintln(a.out, line)
	}
}

// usageTemplate is what follows the description of a command: how it is called,
// its commands by what they are for, and its options.
const usageTemplate = `Usage:
  {{.UseLine}}{{if .HasAvailableSubCommands}}{{$all := .Commands}}{{if .Groups}}{{range $group := .Groups}}

{{$group.Title}}{{range $all}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{else}}

Commands:{{range $all}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}

'{{.Root.Name}} help {{if .HasParent}}{{.Name}} {{end}}COMMAND' tells more about one.{{end}}{{if .HasAvailableLocalFlags}}

Options:
{{.LocalFlags.FlagUsagesWrapped %d | trimTrailingWhitespaces}}{{end}}
`

// helpWidth is how wide help is: as the terminal, and no wider than is read well.
func (a *app) helpWidth() int {
	const most, least = 80, 30
	w := most
	if s, ok := a.out.(screen); ok && s.columns() > 0 {
		w = min(w, s.columns())
	}
	return max(w, least)
}

// setHelp makes help of one command cobra's, and that of all commands ours.
func (a *app) setHelp(root *cobra.Command) {
	width := a.helpWidth()
	root.SetUsageTemplate(fmt.Sprintf(usageTemplate, width))
	whole := func(c *cobra.Command, _ []string) {
		c.InitDefaultHelpFlag()
		for _, line := range wrap(c.Long+"\n\n"+c.UsageString(), width) {
			fmt.Fprintln(a.out, line)
		}
	}
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if c == root {
			a.shortHelp(root)
			return
		}
		whole(c, args)
	})
	all := false
	help := &cobra.Command{
		Use: "help [COMMAND]", GroupID: groupOther,
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
		case "list", "remove", "refresh", "revert", "enable", "disable", "switch", "changes", "get", "set", "unset", "explain", "connections":
			c.ValidArgsFunction = a.completeSnaps
		case "run":
			c.ValidArgsFunction = a.completeApps
		case "connect", "disconnect":
			c.ValidArgsFunction = a.completePlugs
		case "interface":
			c.ValidArgsFunction = a.completeInterfaces
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

// completeApps offers what 'snap run' runs.
func (a *app) completeApps(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault // the app's own arguments
	}
	snaps, err := a.client.Snaps(c.Context(), nil, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, s := range snaps {
		for _, ai := range s.Apps {
			switch {
			case ai.Daemon != "":
			case ai.Name == s.Name:
				out = append(out, s.Name)
			default:
				out = append(out, s.Name+"."+ai.Name)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completePlugs offers plugs first, then slots.
func (a *app) completePlugs(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := a.client.Connections(c.Context(), "", true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	switch len(args) {
	case 0:
		for _, p := range all.Plugs {
			out = append(out, p.Snap+":"+p.Name)
		}
	case 1:
		for _, s := range all.Slots {
			out = append(out, s.Snap+":"+s.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeInterfaces(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	list, err := a.client.Interfaces(c.Context(), nil, false, true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, i := range list {
		out = append(out, i.Name+"\t"+i.Summary)
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
