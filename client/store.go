// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// StoreOptions are how snaps come from the store.
type StoreOptions struct {
	Channel  string // "" is the one that is tracked, else latest/stable
	Revision string // for a single snap, in place of what the channel has
	Amend    bool   // go from a local revision to one of the store
	Together bool   // several snaps: all of them or none
}

func storeRequest(action string, names []string, s StoreOptions, o InstallOptions) (path string, r SnapRequest) {
	r = SnapRequest{Action: action, Channel: s.Channel, Revision: s.Revision, Amend: s.Amend, Transaction: "per-snap", InstallOptions: o}
	if s.Together {
		r.Transaction = "all-snaps"
	}
	if len(names) == 1 {
		return snapPath(names[0]), r
	}
	r.Snaps = names
	return "/v2/snaps", r
}

// InstallNames installs snaps from the store.
func (c *Client) InstallNames(ctx context.Context, names []string, s StoreOptions, o InstallOptions) (changeID string, err error) {
	path, r := storeRequest("install", names, s, o)
	return c.start(ctx, path, r)
}

// PlanInstallNames returns what InstallNames would do.
func (c *Client) PlanInstallNames(ctx context.Context, names []string, s StoreOptions, o InstallOptions) ([]Plan, error) {
	path, r := storeRequest("install", names, s, o)
	r.DryRun = true
	return c.plan(ctx, path, r)
}

// Refresh refreshes snaps from the store, or all that have an update.
func (c *Client) Refresh(ctx context.Context, names []string, s StoreOptions, o InstallOptions) (changeID string, err error) {
	path, r := storeRequest("refresh", names, s, o)
	return c.start(ctx, path, r)
}

// PlanRefresh returns what Refresh would do.
func (c *Client) PlanRefresh(ctx context.Context, names []string, s StoreOptions, o InstallOptions) ([]Plan, error) {
	path, r := storeRequest("refresh", names, s, o)
	r.DryRun = true
	return c.plan(ctx, path, r)
}

// Forever is the time that stands for the end of a hold that has none.
func Forever() time.Time { return time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC) }

// Hold keeps snaps from being refreshed with others until a time, whose zero
// value is forever; without names it keeps refreshes from beginning by themselves.
func (c *Client) Hold(ctx context.Context, names []string, until time.Time) (changeID string, err error) {
	r := SnapRequest{Action: "hold", Time: "forever", HoldLevel: "general", Snaps: names}
	if !until.IsZero() {
		r.Time = until.UTC().Format(time.RFC3339)
	}
	if len(names) == 0 {
		r.HoldLevel = "auto-refresh"
	}
	return c.start(ctx, "/v2/snaps", r)
}

// Unhold takes back what Hold did.
func (c *Client) Unhold(ctx context.Context, names []string) (changeID string, err error) {
	return c.start(ctx, "/v2/snaps", SnapRequest{Action: "unhold", Snaps: names})
}

// Switch changes which channel a snap tracks, and nothing else.
func (c *Client) Switch(ctx context.Context, name, channel string) (changeID string, err error) {
	return c.start(ctx, snapPath(name), SnapRequest{Action: "switch", Channel: channel})
}

// Update is a refresh that is possible.
type Update struct {
	Snap
	Plan *Plan // nil if PlanError says why it cannot be
}

// UnmarshalJSON reads the plan, which Snap only passes on.
func (u *Update) UnmarshalJSON(raw []byte) error {
	var with struct {
		Plan *Plan `json:"refresh-plan"`
	}
	if err := json.Unmarshal(raw, &u.Snap); err != nil {
		return err
	}
	err := json.Unmarshal(raw, &with)
	u.Snap.Plan, u.Plan = nil, with.Plan
	return err
}

// Updates lists the refreshes that are possible, by name.
func (c *Client) Updates(ctx context.Context) ([]Update, error) {
	var out []Update
	err := c.get(ctx, "/v2/find", url.Values{"select": {"refresh"}}, &out)
	return out, err
}

// FindOne describes one snap of the store.
func (c *Client) FindOne(ctx context.Context, name string) (*Snap, error) {
	var out []Snap
	if err := c.get(ctx, "/v2/find", url.Values{"name": {name}}, &out); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("cannot understand the daemon: nothing found for %q", name)
	}
	return &out[0], nil
}

// Find lists the snaps of the store that match words.
func (c *Client) Find(ctx context.Context, words string) ([]Snap, error) {
	var out []Snap
	err := c.get(ctx, "/v2/find", url.Values{"q": {words}}, &out)
	return out, err
}
