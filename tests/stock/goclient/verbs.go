// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/snapcore/snapd/client"
)

// await waits for a change that one of the client's methods has begun.
type await func(what, id string, err error) error

// verbs goes through what else there is to do with a snap, of which revisions 1
// and 2 are installed.
func verbs(c *client.Client, wait await) error {
	id, err := c.Revert("plain", nil)
	if err := wait("revert", id, err); err != nil {
		return err
	}
	id, err = c.Switch("plain", &client.SnapOptions{Channel: "edge"})
	if err := wait("switch", id, err); err != nil {
		return err
	}
	id, err = c.Disable("plain", nil)
	if err := wait("disable", id, err); err != nil {
		return err
	}
	id, err = c.Enable("plain", nil)
	if err := wait("enable", id, err); err != nil {
		return err
	}
	id, err = c.Restart([]string{"plain"}, client.ScopeSelector{}, client.UserSelector{}, client.RestartOptions{})
	if err := wait("restart", id, err); err != nil {
		return err
	}
	id, err = c.Start([]string{"plain.svc"}, client.ScopeSelector{}, client.UserSelector{}, client.StartOptions{Enable: true})
	if err := wait("start", id, err); err != nil {
		return err
	}
	id, err = c.Refresh("plain", nil, &client.SnapOptions{Revision: "2"})
	if err := wait("refresh to a revision", id, err); err != nil {
		return err
	}
	return holds(c, wait)
}

// holds keeps the snap from being refreshed with others.
func holds(c *client.Client, wait await) error {
	id, err := c.HoldRefreshes("plain", &client.SnapOptions{Time: "forever", HoldLevel: "general"})
	if err := wait("hold", id, err); err != nil {
		return err
	}
	s, _, err := c.Snap("plain")
	if err != nil {
		return fmt.Errorf("cannot look at a snap: %w", err)
	}
	fmt.Println("held", s.Hold != nil && s.Hold.After(time.Now()))
	id, err = c.UnholdRefreshes("plain", nil)
	if err := wait("unhold", id, err); err != nil {
		return err
	}
	id, err = c.RefreshMany(nil, nil, nil)
	if err != nil {
		return fmt.Errorf("cannot refresh all: %w", err)
	}
	ch, err := ready(c, id)
	if err != nil {
		return fmt.Errorf("cannot refresh all: %w", err)
	}
	fmt.Println("refresh all", ch.Status)
	return nil
}

// readings asks for what can be read besides.
func readings(c *client.Client) error {
	found, _, err := c.Find(&client.FindOptions{Refresh: true})
	if err != nil {
		return fmt.Errorf("cannot list refreshes: %w", err)
	}
	fmt.Println("refreshes", len(found))
	changes, err := c.Changes(&client.ChangesOptions{Selector: client.ChangesAll})
	if err != nil {
		return fmt.Errorf("cannot list changes: %w", err)
	}
	sort.Slice(changes, func(i, j int) bool { return changes[i].SpawnTime.Before(changes[j].SpawnTime) })
	_, err = c.Abort(changes[0].ID)
	fmt.Println("abort of what is done is refused:", err != nil)
	ch, err := c.Change(changes[0].ID)
	if err != nil || len(ch.Tasks) == 0 {
		return fmt.Errorf("cannot see tasks: %v, %w", ch, err)
	}
	warnings, err := c.Warnings(client.WarningsOptions{All: true})
	if err != nil {
		return fmt.Errorf("cannot list warnings: %w", err)
	}
	for _, w := range warnings {
		if w.Message == "" || w.FirstAdded.IsZero() || w.ExpireAfter == 0 {
			return fmt.Errorf("cannot read the warning %+v", w)
		}
	}
	if err := c.Okay(time.Now()); err != nil {
		return fmt.Errorf("cannot okay warnings: %w", err)
	}
	connections, err := c.Connections(&client.ConnectionOptions{All: true})
	if err != nil {
		return fmt.Errorf("cannot list connections: %w", err)
	}
	fmt.Println("slots", len(connections.Slots) > 0)
	info, body, err := c.Download("plain", &client.DownloadOptions{SnapOptions: client.SnapOptions{Revision: "2"}})
	if err != nil {
		return fmt.Errorf("cannot download: %w", err)
	}
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	if err != nil || n != info.Size || len(info.Sha3_384) != 96 {
		return fmt.Errorf("cannot download: %d bytes of %+v, %w", n, info, err)
	}
	fmt.Println("downloaded", info.SuggestedFileName)
	_, _, err = c.Snap("nosuch")
	var e *client.Error
	fmt.Println("a snap that is not there:", errors.As(err, &e) && e.Kind == client.ErrorKindSnapNotFound)
	return nil
}
