// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"endured/client"
)

func newLogsCommand(a *app) *cobra.Command {
	var lines string
	var follow, absolute bool
	var o output
	c := &cobra.Command{
		Use:   "logs SERVICE...",
		Short: "Show what services have logged",
		Long: long(`
Show the last lines that services have logged, with those of processes that
earlier refreshes left running. A service is named "snap.service"; "snap" means
all of its services. With --format=json each line is a JSON object.`),
		Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			n := -1
			if lines != "all" {
				v, err := strconv.ParseInt(lines, 0, 32)
				if err != nil || v < 0 {
					return usageErrorf("cannot show -n %q lines: want a number or \"all\"", lines)
				}
				n = int(v)
			}
			if _, err := o.wanted(); err != nil {
				return err
			}
			return a.logs(c.Context(), args, n, follow, absolute, o)
		},
	}
	c.Flags().StringVarP(&lines, "lines", "n", "10", "Show this many lines, or 'all'")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "Go on with the lines to come")
	c.Flags().BoolVar(&absolute, "abs-time", false, absTimeHelp)
	o.formatFlag(c)
	return c
}

func (a *app) logs(ctx context.Context, names []string, n int, follow, absolute bool, o output) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interrupts, stop := a.interrupts()
	defer stop()
	go func() {
		select {
		case <-interrupts: // an end like any other: nothing was begun
			cancel()
		case <-ctx.Done():
		}
	}()
	err := a.client.Logs(ctx, names, n, follow, func(l client.Log) error {
		if json, _ := o.wanted(); json {
			return a.printLine(l)
		}
		l.SID, l.Message = printable(l.SID), printable(l.Message)
		l.Timestamp = l.Timestamp.In(a.zone)
		_, err := fmt.Fprintln(a.out, l)
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// printLine prints v as JSON on a line of its own.
func (a *app) printLine(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot print JSON: %w", err)
	}
	_, err = fmt.Fprintln(a.out, string(raw))
	return err
}
