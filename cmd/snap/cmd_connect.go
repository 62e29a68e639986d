// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"endured/client"
)

// isHost tells whether slots of this snap are the host's, written ":SLOT".
func isHost(name string) bool { return name == "snapd" || name == "core" || name == "system" }

// cutEnd takes "SNAP:NAME", "SNAP" or ":NAME" apart.
func cutEnd(arg string) (snapName, name string, err error) {
	snapName, name, found := strings.Cut(arg, ":")
	if arg == "" || found && name == "" || strings.Contains(name, ":") {
		return "", "", usageErrorf("cannot use %q: want SNAP:NAME or SNAP", arg)
	}
	return snapName, name, nil
}

func newConnectCommand(a *app) *cobra.Command {
	var w waiting
	c := &cobra.Command{
		Use:   "connect SNAP:PLUG [SNAP:SLOT]",
		Short: "Connect a plug with a slot",
		Long: long(`
Connect a plug to a slot: the snap gets what the slot offers.

    snap connect SNAP:PLUG SNAP:SLOT   connects to that slot
    snap connect SNAP:PLUG SNAP        to the only slot of the snap that fits
    snap connect SNAP:PLUG             to the slot that the system has

New rules of access hold at once. What only a start can give, such as a
directory of another snap, is there after the next start of the service.`, exitConflict),
		Args: usage(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			r := client.InterfaceRequest{Action: "connect", Plugs: make([]client.PlugRef, 1), Slots: make([]client.SlotRef, 1)}
			var err error
			if r.Plugs[0].Snap, r.Plugs[0].Name, err = cutEnd(args[0]); err != nil {
				return err
			}
			if r.Plugs[0].Name == "" {
				return usageErrorf("please name the plug: snap connect %s:PLUG", args[0])
			}
			if len(args) > 1 {
				if r.Slots[0].Snap, r.Slots[0].Name, err = cutEnd(args[1]); err != nil {
					return err
				}
			}
			return a.changeConnection(c.Context(), w, r)
		},
	}
	w.flag(c)
	return c
}

func newDisconnectCommand(a *app) *cobra.Command {
	var w waiting
	r := client.InterfaceRequest{Action: "disconnect"}
	c := &cobra.Command{
		Use:   "disconnect SNAP:PLUG [SNAP:SLOT]",
		Short: "Take a connection away",
		Long: long(`
Disconnect a plug from a slot.

    snap disconnect SNAP:PLUG SNAP:SLOT   takes this connection away
    snap disconnect SNAP:PLUG-OR-SLOT     every connection of the plug or slot

What was connected without being asked for stays away, over refreshes too, until
'snap connect'. With --forget that is not remembered.`, exitConflict),
		Args: usage(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			r.Plugs, r.Slots = make([]client.PlugRef, 1), make([]client.SlotRef, 1)
			last := len(args) - 1
			var err error
			if r.Slots[0].Snap, r.Slots[0].Name, err = cutEnd(args[last]); err != nil {
				return err
			}
			if r.Slots[0].Name == "" {
				return usageErrorf("please name the plug or slot: snap disconnect %s:NAME", args[last])
			}
			if last == 1 {
				if r.Plugs[0].Snap, r.Plugs[0].Name, err = cutEnd(args[0]); err != nil {
					return err
				}
			}
			err = a.changeConnection(c.Context(), w, r)
			if client.IsKind(err, client.KindUnchanged) {
				fmt.Fprintln(a.err, "Nothing is connected there.")
				return nil
			}
			return err
		},
	}
	c.Flags().BoolVar(&r.Forget, "forget", false, "Forget the connection, so that it may be made anew by itself")
	w.flag(c)
	return c
}

func (a *app) changeConnection(ctx context.Context, w waiting, r client.InterfaceRequest) error {
	id, err := a.client.ChangeConnection(ctx, r)
	if err != nil {
		return err
	}
	_, err = a.wait(ctx, w, id)
	return done(err)
}
