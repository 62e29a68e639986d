// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"endured/snap"
)

func newPackCommand(a *app) *cobra.Command {
	var (
		o     snap.PackOptions
		check bool
	)
	c := &cobra.Command{
		Use:   "pack [DIR] [TARGET-DIR]",
		Short: "Pack a directory as a snap",
		Long: long(`
Check the unpacked snap in DIR (the working directory by default) and pack it
into a .snap file in TARGET-DIR (the working directory by default).

With --check-skeleton nothing is packed: meta/snap.yaml is checked, and that
the commands it names exist.`, "20  mksquashfs failed or is not installed"),
		Args: usage(0, 2),
		RunE: func(c *cobra.Command, args []string) error {
			dir, target := ".", "."
			if len(args) > 0 {
				dir = args[0]
			}
			if len(args) > 1 {
				target = args[1]
			}
			info, err := snap.CheckSkeleton(dir)
			if err != nil {
				return err
			}
			for _, note := range info.Notes {
				fmt.Fprintf(a.err, "note: %s\n", printable(note))
			}
			if check {
				return nil
			}
			path, err := snap.Pack(c.Context(), dir, target, o)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "built: %s\n", filepath.Clean(path))
			return nil
		},
	}
	c.Flags().BoolVar(&check, "check-skeleton", false, "Only check the snap's metadata and layout")
	c.Flags().StringVar(&o.Filename, "filename", "", "Name of the file (default NAME_VERSION_ARCH.snap)")
	c.Flags().StringVar(&o.Compression, "compression", "", "Compression: xz, lzo, zstd or gzip (default xz)")
	return c
}
