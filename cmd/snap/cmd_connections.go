// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"endured/client"
)

func newConnectionsCommand(a *app) *cobra.Command {
	var all bool
	var o output
	c := &cobra.Command{
		Use:   "connections [SNAP]",
		Short: "List what is connected",
		Long: long(`
List connections: those of all snaps, or plugs and slots of one snap, connected
or not. Notes say "manual" of a connection that was asked for. A slot without a
snap is the system's.`),
		Args: usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			name := firstOf(args)
			if name != "" && all {
				return usageErrorf("cannot use --all for one snap: its plugs and slots are all listed anyway")
			}
			got, err := a.client.Connections(c.Context(), name, all || name != "")
			if err != nil {
				return err
			}
			if done, err := o.json(a, got); done || err != nil {
				return err
			}
			t := newTable("Interface", "Plug", "Slot", "Notes")
			rows := connectionRows(got)
			for _, r := range rows {
				t.add(r...)
			}
			if len(rows) > 0 {
				t.write(a.out)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "List plugs and slots that are not connected, too")
	o.formatFlag(c)
	return c
}

func endName(snapName, name string) string {
	if isHost(snapName) {
		snapName = ""
	}
	return snapName + ":" + name
}

// connectionRows are what is connected, and plugs and slots that are not. A slot
// of the host that nothing uses says nothing.
func connectionRows(c *client.Connections) [][]string {
	var rows [][]string
	for _, n := range c.Established {
		notes := "-"
		if n.Manual {
			notes = "manual"
		}
		kind := n.Interface
		if id, ok := n.PlugAttrs["content"].(string); ok && kind == "content" {
			kind += "[" + id + "]"
		}
		rows = append(rows, []string{kind, endName(n.Plug.Snap, n.Plug.Name), endName(n.Slot.Snap, n.Slot.Name), notes})
	}
	for _, p := range c.Plugs {
		if len(p.Connections) == 0 {
			rows = append(rows, []string{p.Interface, endName(p.Snap, p.Name), "-", "-"})
		}
	}
	for _, s := range c.Slots {
		if len(s.Connections) == 0 && !isHost(s.Snap) {
			rows = append(rows, []string{s.Interface, "-", endName(s.Snap, s.Name), "-"})
		}
	}
	slices.SortStableFunc(rows, func(a, b []string) int { return slices.Compare(a[:3], b[:3]) })
	return rows
}

func newInterfaceCommand(a *app) *cobra.Command {
	var all, attrs bool
	var o output
	c := &cobra.Command{
		Use:   "interface [NAME]",
		Short: "Describe an interface, or list those in use",
		Long: long(`
Describe an interface and list its plugs and slots. Without a name, list the
interfaces that are in use.`),
		Args: usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				list, err := a.client.Interfaces(c.Context(), nil, false, all)
				if err != nil {
					return err
				}
				if done, err := o.json(a, list); done || err != nil {
					return err
				}
				if len(list) == 0 {
					return fmt.Errorf("no interface has a connection; --all lists every one")
				}
				t := newTable("Name", "Summary")
				for _, i := range list {
					t.add(i.Name, i.Summary)
				}
				t.write(a.out)
				return nil
			}
			list, err := a.client.Interfaces(c.Context(), args, true, true)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return fmt.Errorf("cannot find interface %q: 'snap interface --all' lists every one", args[0])
			}
			if done, err := o.json(a, list[0]); done || err != nil {
				return err
			}
			describeInterface(a.out, &list[0], attrs)
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "List interfaces that are not in use, too")
	c.Flags().BoolVar(&attrs, "attrs", false, "Show the attributes of plugs and slots")
	o.formatFlag(c)
	return c
}

func describeInterface(w io.Writer, i *client.Interface, attrs bool) {
	fmt.Fprintf(w, "name:    %s\nsummary: %s\n", i.Name, i.Summary)
	ends := func(title string, n int, each func(n int) (snapName, name, label string, a map[string]any)) {
		if n == 0 {
			return
		}
		fmt.Fprintf(w, "%s:\n", title)
		for k := range n {
			snapName, name, label, values := each(k)
			line := "  - " + snapName
			if name != i.Name {
				line += ":" + name
			}
			if label != "" {
				line += " (" + printable(label) + ")"
			}
			if attrs && len(values) > 0 {
				line += ":"
			}
			fmt.Fprintln(w, line)
			if attrs {
				for _, key := range sortedKeys(values) {
					fmt.Fprintf(w, "      %s: %s\n", key, printable(strings.TrimSpace(fmt.Sprint(values[key]))))
				}
			}
		}
	}
	ends("plugs", len(i.Plugs), func(n int) (string, string, string, map[string]any) {
		p := i.Plugs[n]
		return p.Snap, p.Name, p.Label, p.Attrs
	})
	ends("slots", len(i.Slots), func(n int) (string, string, string, map[string]any) {
		s := i.Slots[n]
		return s.Snap, s.Name, s.Label, s.Attrs
	})
}

func sortedKeys(m map[string]any) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
