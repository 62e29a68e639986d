// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const settingsHelp = `
The options of "system" are

  refresh.stop-timeout-max       the longest that any service has to stop, such
                                 as 10s; what its stop-timeout says is cut to it
  refresh-mode.<snap>.<service>  what a refresh does to this service, in place
                                 of the refresh-mode that it declares`

func newGetCommand(a *app) *cobra.Command {
	var document, list, typed bool
	var o output
	c := &cobra.Command{
		Use:   "get SNAP [KEY...]",
		Short: "Print options",
		Long: long(`
Print options: the value of one, or a table of several, of those below one, or
of all that are set.
` + settingsHelp),
		Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			if document && list {
				return usageErrorf("cannot print with both -d and -l")
			}
			json, err := o.wanted()
			if err != nil {
				return err
			}
			if json && list {
				return usageErrorf("cannot print a table as JSON")
			}
			document = document || json
			return a.get(c.Context(), args[0], args[1:], document, list, typed)
		},
	}
	c.Flags().BoolVarP(&document, "document", "d", false, "Print a JSON document")
	c.Flags().BoolVarP(&list, "list", "l", false, "Print a table, even of a single value")
	c.Flags().BoolVarP(&typed, "typed", "t", false, "Print values as JSON: strings with quotes")
	o.formatFlag(c)
	return c
}

func (a *app) get(ctx context.Context, name string, keys []string, document, list, typed bool) error {
	conf, err := a.client.Conf(ctx, name, keys)
	if err != nil {
		return err
	}
	if len(keys) == 0 && len(conf) == 0 {
		return fmt.Errorf("snap %q has no option set", name)
	}
	if document {
		raw, err := json.MarshalIndent(conf, "", "\t")
		if err != nil {
			return err
		}
		fmt.Fprintln(a.out, string(raw))
		return nil
	}
	leaves := map[string]string{}
	for key, raw := range conf {
		if err := flatten(leaves, key, raw, typed); err != nil {
			return err
		}
	}
	if value, single := leaves[firstOf(keys)]; single && len(keys) == 1 && !list {
		fmt.Fprintln(a.out, value)
		return nil
	}
	t := newTable("Key", "Value")
	for _, key := range slices.Sorted(maps.Keys(leaves)) {
		t.add(key, leaves[key])
	}
	t.write(a.out)
	return nil
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// flatten puts a value, or those in an object, under dotted keys.
func flatten(into map[string]string, key string, raw json.RawMessage, typed bool) error {
	var object map[string]json.RawMessage
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] == '{' {
		if err := json.Unmarshal(raw, &object); err != nil {
			return fmt.Errorf("cannot understand the daemon: %w", err)
		}
		for k, below := range object {
			if err := flatten(into, key+"."+k, below, typed); err != nil {
				return err
			}
		}
		return nil
	}
	var text string
	if typed || json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	into[key] = printable(text)
	return nil
}

func newSetCommand(a *app) *cobra.Command {
	var w waiting
	var typed, asString bool
	c := &cobra.Command{
		Use:   "set SNAP KEY=VALUE...",
		Short: "Change options",
		Long: long(`
Change options. A value that is JSON is taken as such, others are strings;
"KEY!" takes an option away, as 'snap unset' does.
`+settingsHelp+`

  snap set system refresh.stop-timeout-max=10s
  snap set system refresh-mode.web.server=endure`, exitConflict),
		Args: usage(2, -1),
		RunE: func(c *cobra.Command, args []string) error {
			if typed && asString {
				return usageErrorf("cannot read values with both -t and -s")
			}
			values := map[string]any{}
			for _, arg := range args[1:] {
				if err := assignment(values, arg, typed, asString); err != nil {
					return err
				}
			}
			return a.configure(c.Context(), w, args[0], values)
		},
	}
	c.Flags().BoolVarP(&typed, "typed", "t", false, "Refuse a value that is not JSON")
	c.Flags().BoolVarP(&asString, "string", "s", false, "Take all values as text")
	w.flag(c)
	return c
}

// assignment adds KEY=VALUE or KEY! to the values.
func assignment(values map[string]any, arg string, typed, asString bool) error {
	key, text, ok := strings.Cut(arg, "=")
	if bare, unset := strings.CutSuffix(arg, "!"); !ok && unset {
		values[bare] = nil
		return nil
	}
	if !ok || key == "" {
		return usageErrorf("cannot set %q: want KEY=VALUE, or KEY! to unset", arg)
	}
	var v any = text
	if !asString {
		var parsed any
		if err := json.Unmarshal([]byte(text), &parsed); err == nil {
			v = json.RawMessage(text) // a number stays what it was
		} else if typed {
			return usageErrorf("cannot use the value of %q: %v", key, err)
		}
	}
	values[key] = v
	return nil
}

func newUnsetCommand(a *app) *cobra.Command {
	var w waiting
	c := &cobra.Command{
		Use:   "unset SNAP KEY...",
		Short: "Take options away",
		Long:  long("Take options away, each with those below it.\n"+settingsHelp, exitConflict),
		Args:  usage(2, -1),
		RunE: func(c *cobra.Command, args []string) error {
			values := map[string]any{}
			for _, key := range args[1:] {
				values[key] = nil
			}
			return a.configure(c.Context(), w, args[0], values)
		},
	}
	w.flag(c)
	return c
}

func (a *app) configure(ctx context.Context, w waiting, name string, values map[string]any) error {
	id, err := a.client.SetConf(ctx, name, values)
	if err != nil {
		return err
	}
	_, err = a.wait(ctx, w, id)
	return done(err)
}
