// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// The groups of "snap help".
const (
	groupBasics     = "basics"
	groupServices   = "services"
	groupInterfaces = "interfaces"
	groupHistory    = "history"
	groupMake       = "make"
	groupOther      = "other"
)

// commands lists every command in the order of help.
func commands(a *app) []*cobra.Command {
	in := func(group string, list ...*cobra.Command) []*cobra.Command {
		for _, c := range list {
			c.GroupID = group
		}
		return list
	}
	var all []*cobra.Command
	all = append(all, in(groupBasics, newFindCommand(a), newInfoCommand(a), newInstallCommand(a), newDownloadCommand(a), newListCommand(a), newRefreshCommand(a),
		newSwitchCommand(a), newRevertCommand(a), newRemoveCommand(a), newEnableCommand(a), newDisableCommand(a), newRunCommand(a))...)
	all = append(all, in(groupServices, newServicesCommand(a), newStartCommand(a), newStopCommand(a), newRestartCommand(a), newLogsCommand(a))...)
	all = append(all, in(groupInterfaces, newConnectionsCommand(a), newConnectCommand(a), newDisconnectCommand(a), newInterfaceCommand(a))...)
	all = append(all, in(groupHistory, newChangesCommand(a), newTasksCommand(a), newWatchCommand(a),
		newAbortCommand(a), newWarningsCommand(a), newOkayCommand(a))...)
	all = append(all, in(groupMake, newPackCommand(a), newExplainCommand(a), newLintCommand(a))...)
	all = append(all, in(groupOther, newGetCommand(a), newSetCommand(a), newUnsetCommand(a), newVersionCommand(a), newDebugCommand(a))...)
	return all
}

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "snap COMMAND",
		Short: "Install, refresh and run snaps",
		Long: `The snap command works with snaps: applications and services that are installed
as one file and refreshed as one. What a refresh does to processes that run is
for the snap to declare; add --dry-run to see it before it happens.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageErrorf("cannot find a command %q: 'snap help --all' lists them", args[0])
			}
			return c.Help()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	root.AddGroup(
		&cobra.Group{ID: groupBasics, Title: "Snaps:"},
		&cobra.Group{ID: groupServices, Title: "Services:"},
		&cobra.Group{ID: groupInterfaces, Title: "Connections:"},
		&cobra.Group{ID: groupHistory, Title: "What happened:"},
		&cobra.Group{ID: groupMake, Title: "Making snaps:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	root.AddCommand(commands(a)...)
	a.completions(root)
	a.setHelp(root)
	return root
}

// long joins the parts of a command's help; every command says how it exits.
func long(text string, exits ...string) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(text))
	b.WriteString("\n\nEXIT STATUS\n  0   it is done\n  1   it failed, or was refused\n")
	for _, e := range exits {
		b.WriteString("  " + e + "\n")
	}
	b.WriteString("  64  the command line was wrong")
	return b.String()
}

// exitConflict is the line of long for commands that begin a change.
const exitConflict = "10  another change works on the snap"

// usage checks the number of arguments: max < 0 is any number.
func usage(min, max int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < min:
			return usageErrorf("cannot %s without an argument: want '%s %s'", c.Name(), c.Parent().CommandPath(), c.Use)
		case max >= 0 && len(args) > max:
			return usageErrorf("cannot use %q: the command takes no more arguments", args[max])
		}
		return nil
	}
}
