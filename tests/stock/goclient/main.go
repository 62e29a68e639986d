// SPDX-License-Identifier: Apache-2.0

// Command goclient calls a daemon through snapd's own Go client library, as
// programs do that manage snaps. It is a module of its own, because the library
// is under another licence than the rest.
package main

import (
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/snapcore/snapd/client"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// ready returns a change that has ended. The library has no call that waits.
func ready(c *client.Client, id string) (*client.Change, error) {
	for {
		ch, err := c.Change(id)
		if err != nil || ch.Ready {
			return ch, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// run installs the file, goes through a snap's life, and removes it.
func run(file string) error {
	c := client.New(&client.Config{DisableAuth: true, UserAgent: "goclient"})
	info, err := c.SysInfo()
	if err != nil {
		return fmt.Errorf("cannot ask for the system: %w", err)
	}
	fmt.Println("series", info.Series, "classic", info.OnClassic)

	wait := func(what, id string, err error) error {
		if err != nil {
			return fmt.Errorf("cannot %s: %w", what, err)
		}
		ch, err := ready(c, id)
		if err != nil {
			return fmt.Errorf("cannot %s: %w", what, err)
		}
		if ch.Err != "" {
			return fmt.Errorf("cannot %s: %s", what, ch.Err)
		}
		var names []string
		if err := ch.Get("snap-names", &names); err != nil {
			return fmt.Errorf("cannot read what %s was about: %w", what, err)
		}
		fmt.Println(what, ch.Kind, ch.Status, names)
		return nil
	}
	id, err := c.InstallPath(file, "", &client.SnapOptions{Dangerous: true})
	if err := wait("install a file", id, err); err != nil {
		return err
	}
	if id, err = c.Remove("plain", nil, &client.SnapOptions{Purge: true}); err == nil {
		err = wait("remove", id, nil)
	}
	if err != nil {
		return err
	}
	id, err = c.Install("plain", nil, &client.SnapOptions{Channel: "stable"})
	if err := wait("install by name", id, err); err != nil {
		return err
	}
	if _, err := c.Refresh("plain", nil, nil); err != nil {
		if e, ok := err.(*client.Error); !ok || e.Kind != client.ErrorKindSnapNoUpdateAvailable {
			return fmt.Errorf("a refresh without an update: %w", err)
		}
		fmt.Println("no update:", err)
	}
	id, err = c.Refresh("plain", nil, &client.SnapOptions{Channel: "edge"})
	if err := wait("refresh", id, err); err != nil {
		return err
	}
	return look(c, wait)
}

// look reads what there is, and controls services.
func look(c *client.Client, wait await) error {
	snaps, err := c.List(nil, &client.ListOptions{All: true})
	if err != nil {
		return fmt.Errorf("cannot list: %w", err)
	}
	sort.Slice(snaps, func(i, j int) bool { return snaps[i].Revision.N < snaps[j].Revision.N })
	for _, s := range snaps {
		fmt.Println("snap", s.Name, s.Version, s.Revision, s.Status, s.TrackingChannel)
	}
	apps, err := c.Apps([]string{"plain"}, client.AppOptions{Service: true})
	if err != nil {
		return fmt.Errorf("cannot list services: %w", err)
	}
	for _, a := range apps {
		fmt.Println("service", a.Snap, a.Name, a.Daemon, a.Enabled, a.Active)
	}
	found, _, err := c.FindOne("plain")
	if err != nil {
		return fmt.Errorf("cannot find: %w", err)
	}
	fmt.Println("found", found.Name, len(found.Channels), "channels, edge has", found.Channels["latest/edge"].Revision)
	id, err := c.Stop([]string{"plain"}, client.ScopeSelector{}, client.UserSelector{}, client.StopOptions{})
	if err := wait("stop", id, err); err != nil {
		return err
	}
	logs, err := c.Logs([]string{"plain"}, client.LogOptions{N: 1})
	if err != nil {
		return fmt.Errorf("cannot read logs: %w", err)
	}
	for l := range logs {
		fmt.Println("log of", l.SID)
	}
	id, err = c.SetConf("system", map[string]interface{}{"refresh.retain": 3})
	if err := wait("set", id, err); err != nil {
		return err
	}
	conf, err := c.Conf("system", []string{"refresh.retain"})
	if err != nil {
		return fmt.Errorf("cannot get: %w", err)
	}
	fmt.Println("retain", conf["refresh.retain"])
	changes, err := c.Changes(&client.ChangesOptions{SnapName: "plain", Selector: client.ChangesAll})
	if err != nil {
		return fmt.Errorf("cannot list changes: %w", err)
	}
	fmt.Println("changes", len(changes) > 3)
	if err := verbs(c, wait); err != nil {
		return err
	}
	if err := readings(c); err != nil {
		return err
	}
	id, err = c.RemoveMany([]string{"plain"}, nil, nil)
	return wait("remove several", id, err)
}
