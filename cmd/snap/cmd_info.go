// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"endured/client"
	"endured/snap"
)

func newInfoCommand(a *app) *cobra.Command {
	var o output
	var absolute bool
	c := &cobra.Command{
		Use:   "info NAME|FILE...",
		Short: "Show what a snap is",
		Long: long(`
Show what is known of snaps: of those that are installed, of those in the store,
and of files.`),
		Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			var all []snapInfo
			for _, arg := range args {
				i, err := a.lookAt(c.Context(), arg)
				if err != nil {
					return err
				}
				all = append(all, i)
			}
			if done, err := o.json(a, all); done || err != nil {
				return err
			}
			for n, i := range all {
				if n > 0 {
					fmt.Fprintln(a.out, "---")
				}
				a.printInfo(i, absolute)
			}
			return nil
		},
	}
	o.formatFlag(c)
	c.Flags().BoolVar(&absolute, "abs-time", false, absTimeHelp)
	return c
}

// snapInfo is what the places know that a snap may be in.
type snapInfo struct {
	Path      string       `json:"path,omitempty"`
	File      *client.Snap `json:"file,omitempty"`
	Installed *client.Snap `json:"installed,omitempty"`
	Store     *client.Snap `json:"store,omitempty"`
}

// any is the one to describe the snap by.
func (i *snapInfo) any() *client.Snap {
	for _, s := range []*client.Snap{i.File, i.Installed, i.Store} {
		if s != nil {
			return s
		}
	}
	return nil
}

func (a *app) lookAt(ctx context.Context, arg string) (snapInfo, error) {
	if _, err := os.Stat(arg); err == nil || isFile(arg) {
		return describeFile(arg)
	}
	var out snapInfo
	var err error
	if out.Installed, err = a.client.Snap(ctx, arg); err != nil && !client.IsKind(err, client.KindNotFound) {
		return out, err
	}
	var serr error
	if out.Store, serr = a.client.FindOne(ctx, arg); serr != nil {
		out.Store = nil
	}
	if out.Installed == nil && out.Store == nil {
		if client.IsKind(serr, client.KindNotFound) {
			return out, fmt.Errorf("cannot find %q, as a snap here, in the store, or as a file", arg)
		}
		return out, fmt.Errorf("cannot find %q: %w", arg, serr)
	}
	return out, nil
}

// describeFile reads a .snap, or the directory of an unpacked one.
func describeFile(path string) (snapInfo, error) {
	out := snapInfo{Path: path}
	st, err := os.Stat(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return out, fmt.Errorf("cannot read %q: %w", path, err)
	}
	var info *snap.Info
	if st.IsDir() {
		info, err = snap.CheckSkeleton(path)
	} else {
		var f *snap.File
		if f, err = snap.Open(path); err == nil {
			defer f.Close()
			info = f.Info()
		}
	}
	if err != nil {
		return out, err
	}
	s := &client.Snap{
		Name: info.Name, Title: info.Title, Summary: info.Summary, Description: info.Description, Version: info.Version,
		License: info.License, Base: info.Base, Type: info.Type, Confinement: info.Confinement,
	}
	if !st.IsDir() {
		s.DownloadSize = st.Size()
	}
	for _, app := range info.SortedApps() {
		s.Apps = append(s.Apps, client.AppInfo{Snap: info.Name, Name: app.Name, Daemon: app.Daemon})
	}
	out.File = s
	return out, nil
}

func (a *app) printInfo(i snapInfo, absolute bool) {
	s := i.any()
	line := func(key, value string) { a.say("%-11s %s", key+":", printable(value)) }
	if i.Path != "" {
		line("path", i.Path)
	}
	line("name", s.Name)
	line("summary", orDash(s.Summary))
	line("publisher", orDash(publisher(s.Publisher)))
	if s.License == "" {
		line("license", "unset")
	} else {
		line("license", s.License)
	}
	fmt.Fprintln(a.out, "description: |")
	for _, l := range wrap(orDash(s.Description), min(a.width(), 80)-2) {
		a.say("%s", strings.TrimRight("  "+printable(l), " "))
	}
	a.printApps(s)
	if in := i.Installed; in != nil {
		if in.TrackingChannel != "" {
			line("tracking", in.TrackingChannel)
		}
		if in.Hold != nil {
			line("hold", a.held(*in.Hold))
		}
		if in.InstallDate != nil {
			line("refreshed", a.when(*in.InstallDate, absolute))
		}
	}
	if i.Store != nil && len(i.Store.Channels) > 0 {
		a.printChannels(i.Store)
	}
	switch {
	case i.Installed != nil:
		line("installed", fmt.Sprintf("%s (%s) %s %s", i.Installed.Version, i.Installed.Revision, bytesize(i.Installed.InstalledSize), orDash(snapNotes(i.Installed))))
	case i.File != nil:
		line("version", s.Version+" -")
		if s.DownloadSize > 0 {
			line("size", bytesize(s.DownloadSize))
		}
	}
}

func (a *app) printApps(s *client.Snap) {
	var commands, services []string
	for _, ai := range s.Apps {
		full := s.Name + "." + ai.Name
		if ai.Daemon == "" {
			if ai.Name == s.Name {
				full = s.Name
			}
			commands = append(commands, "  - "+full)
			continue
		}
		enabled, active := "disabled", "inactive"
		if ai.Enabled {
			enabled = "enabled"
		}
		if ai.Active {
			active = "active"
		}
		services = append(services, fmt.Sprintf("  %s: %s, %s, %s", full, ai.Daemon, enabled, active))
	}
	for _, l := range []struct {
		title string
		lines []string
	}{{"commands:", commands}, {"services:", services}} {
		if len(l.lines) > 0 {
			fmt.Fprintln(a.out, l.title)
			for _, text := range l.lines {
				a.say("%s", printable(text))
			}
		}
	}
}

// printChannels lists what each channel has; a closed one follows the next more
// stable one, which an arrow says.
func (a *app) printChannels(s *client.Snap) {
	fmt.Fprintln(a.out, "channels:")
	t := &table{}
	for _, track := range s.Tracks {
		open := false
		for _, risk := range riskNames() {
			name := track + "/" + risk
			if c, ok := s.Channels[name]; ok {
				t.add("  "+name+":", printable(c.Version), "("+c.Revision+")", bytesize(c.Size), "-")
				open = true
			} else if open {
				t.add("  "+name+":", "↑")
			} else {
				t.add("  "+name+":", "–")
			}
		}
	}
	var branches []string
	for name := range s.Channels {
		if strings.Count(name, "/") == 2 {
			branches = append(branches, name)
		}
	}
	slices.Sort(branches)
	for _, name := range branches {
		c := s.Channels[name]
		t.add("  "+name+":", printable(c.Version), "("+c.Revision+")", bytesize(c.Size), "-")
	}
	t.write(a.out)
}

func newFindCommand(a *app) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "find [WORD...]",
		Short: "Find snaps in the store",
		Long:  long("List the snaps of the store whose name, title or summary holds all of the words."),
		Args:  usage(0, -1),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := a.client.Find(c.Context(), strings.Join(args, " "))
			if err != nil {
				return err
			}
			if done, err := o.json(a, list); done || err != nil {
				return err
			}
			if len(list) == 0 {
				fmt.Fprintf(a.err, "No snap of the store matches %q.\n", strings.Join(args, " "))
				return nil
			}
			t := newTable("Name", "Version", "Publisher", "Notes", "Summary")
			for i := range list {
				s := &list[i]
				notes := ""
				if s.Confinement != "strict" {
					notes = s.Confinement
				}
				t.add(s.Name, printable(s.Version), publisher(s.Publisher), notes, printable(s.Summary))
			}
			t.write(a.out)
			return nil
		},
	}
	o.formatFlag(c)
	return c
}

func newSwitchCommand(a *app) *cobra.Command {
	var w waiting
	var channel string
	c := &cobra.Command{
		Use:   "switch NAME --channel=CHANNEL",
		Short: "Follow another channel from the next refresh on",
		Long:  long("Change which channel a snap follows. Nothing is refreshed by it.", exitConflict),
		Args:  usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if channel == "" {
				return usageErrorf("missing --channel=<channel-name> parameter")
			}
			id, err := a.client.Switch(c.Context(), args[0], channel)
			if err != nil {
				return err
			}
			if _, err := a.wait(c.Context(), w, id); err != nil {
				return done(err)
			}
			s, err := a.client.Snap(c.Context(), args[0])
			if err != nil {
				return err
			}
			a.say("%s tracks %s now", s.Name, orDash(s.TrackingChannel))
			return nil
		},
	}
	c.Flags().StringVar(&channel, "channel", "", "The channel to follow")
	w.flag(c)
	return c
}
