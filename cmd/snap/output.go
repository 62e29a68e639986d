// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"endured/client"
)

// output is the flag of commands that print a table.
type output struct{ format string }

func (o *output) formatFlag(c *cobra.Command) {
	c.Flags().StringVar(&o.format, "format", "text", "Print text, or json")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// wanted tells whether JSON is, and refuses what is neither that nor text.
func (o *output) wanted() (json bool, err error) {
	switch o.format {
	case "text", "":
		return false, nil
	case "json":
		return true, nil
	}
	return false, usageErrorf("cannot use --format=%s: want text or json", o.format)
}

// json prints v if JSON is wanted, and tells whether it was.
func (o *output) json(a *app, v any) (done bool, err error) {
	if json, err := o.wanted(); !json || err != nil {
		return false, err
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return true, fmt.Errorf("cannot print JSON: %w", err)
	}
	if string(raw) == "null" {
		raw = []byte("[]") // an empty list
	}
	_, err = fmt.Fprintln(a.out, string(raw))
	return true, err
}

// showPlans prints what a dry run answered.
func (a *app) showPlans(o output, plans []client.Plan) error {
	if done, err := o.json(a, plans); done || err != nil {
		return err
	}
	a.printPlans(plans)
	return nil
}

// screen is an output that is a terminal: tables are cut to its width.
type screen struct{ *os.File }

// columns is the terminal's width.
func (s screen) columns() int {
	w, _, err := term.GetSize(int(s.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// wrap breaks text into lines of at most width columns, at blanks where there
// are any; the text's own line breaks and indents stay.
func wrap(text string, width int) []string {
	width = max(width, 20)
	var out []string
	for _, par := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if columns(par) <= width && !strings.Contains(par, "\t") {
			out = append(out, par)
			continue
		}
		indent := par[:len(par)-len(strings.TrimLeft(par, " "))]
		line := ""
		for _, word := range strings.Fields(par) {
			switch {
			case line == "":
				line = indent + word
			case columns(line)+1+columns(word) <= width:
				line += " " + word
			default:
				out = append(out, line)
				line = indent + word
			}
		}
		out = append(out, line)
	}
	return out
}

// tell prints a message to stderr, within the width of a terminal.
func (a *app) tell(text string) {
	if !a.terminal {
		fmt.Fprintln(a.err, text)
		return
	}
	for _, line := range wrap(text, a.width()) {
		fmt.Fprintln(a.err, line)
	}
}

// say prints a message to stdout, within the width of a terminal.
func (a *app) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s, ok := a.out.(screen)
	if !ok || s.columns() <= 0 {
		fmt.Fprintln(a.out, text)
		return
	}
	for _, par := range strings.Split(text, "\n") {
		for _, line := range wrap(par, s.columns()) {
			fmt.Fprintln(a.out, line)
		}
	}
}

// bytesize is a size as people read it, in powers of ten.
func bytesize(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	size, unit := float64(n), 0
	for size >= 999.5 && unit < len(units)-1 {
		size /= 1000
		unit++
	}
	if unit > 0 && size < 9.95 {
		return fmt.Sprintf("%.1f%s", size, units[unit])
	}
	return fmt.Sprintf("%.0f%s", size, units[unit])
}
