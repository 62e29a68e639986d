// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"endured/client"
)

// versionPatience bounds the wait for a daemon: its absence is an answer too.
const versionPatience = 3 * time.Second

func newVersionCommand(a *app) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of client, daemon and system",
		Long:  long("Show the versions of the client, the daemon and the system. A daemon that does\nnot answer is shown as unavailable."),
		Args:  usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), versionPatience)
			defer cancel()
			info, err := a.client.SystemInfo(ctx)
			if err != nil {
				info = &client.SystemInfo{Version: "unavailable"}
			}
			if done, err := o.json(a, map[string]any{"snap": version, "snapd": info.Version, "system": info}); done || err != nil {
				return err
			}
			t := &table{}
			t.add("snap", version)
			t.add("snapd", info.Version)
			if info.Series != "" {
				t.add("series", info.Series)
			}
			if info.OSRelease.ID != "" {
				t.add(info.OSRelease.ID, info.OSRelease.VersionID)
			}
			if info.KernelVersion != "" {
				t.add("kernel", info.KernelVersion)
			}
			t.write(a.out)
			return nil
		},
	}
	o.formatFlag(c)
	return c
}
