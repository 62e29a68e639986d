// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"endured/store"
)

func newStoreIndexCommand(a *app) *cobra.Command {
	var channels []string
	var o output
	c := &cobra.Command{
		Use:   "store-index DIR",
		Short: "Make a directory of .snap files a store",
		Long: long(`
Write index.yaml into a directory of .snap files: which snap and revision each
of them is, its size and hash, and the channels that have it. What the index
said of a file before stays. A new file gets the revision in its name, such as
web_7.snap, else the next one, and is released in latest/stable or the channels
given. To release a revision elsewhere, or to withdraw it, edit its channels in
the index: a channel offers the highest revision that names it.

snapd reads the store in /var/lib/snapd/store, or where 'snap set system
store.path=DIR' says. Only root may be able to write there: nothing else vouches
for these snaps.`),
		Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			var list []store.Channel
			for _, name := range channels {
				ch, err := store.ParseChannel(name)
				if err != nil {
					return usageErrorf("%v", err)
				}
				list = append(list, ch)
			}
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return fmt.Errorf("cannot find %q: %w", args[0], err)
			}
			index, err := store.MakeIndex(c.Context(), dir, list)
			if err != nil {
				return err
			}
			if done, err := o.json(a, index.Snaps); done || err != nil {
				return err
			}
			t := newTable("Name", "Version", "Rev", "Size", "Channels", "File")
			for _, e := range index.Snaps {
				var names []string
				for _, ch := range e.Channels {
					names = append(names, ch.String())
				}
				t.add(e.Name, printable(e.Version), fmt.Sprint(e.Revision), bytesize(e.Size), strings.Join(names, ","), printable(e.File))
			}
			t.write(a.out)
			return nil
		},
	}
	c.Flags().StringSliceVar(&channels, "channel", []string{"latest/stable"}, "Release new files in these channels")
	o.formatFlag(c)
	return c
}
