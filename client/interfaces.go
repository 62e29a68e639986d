// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/url"
	"strconv"
	"strings"
)

// PlugRef names a plug; in a request either part may be left out.
type PlugRef struct {
	Snap string `json:"snap"`
	Name string `json:"plug"`
}

// SlotRef names a slot. The host's slots are those of the snap "snapd".
type SlotRef struct {
	Snap string `json:"snap"`
	Name string `json:"slot"`
}

// Plug is a plug of an installed snap.
type Plug struct {
	Snap        string         `json:"snap"`
	Name        string         `json:"plug"`
	Interface   string         `json:"interface,omitempty"`
	Attrs       map[string]any `json:"attrs,omitempty"`
	Apps        []string       `json:"apps,omitempty"`
	Label       string         `json:"label,omitempty"`
	Connections []SlotRef      `json:"connections,omitempty"`
}

// Slot is a slot of an installed snap, or of the host.
type Slot struct {
	Snap        string         `json:"snap"`
	Name        string         `json:"slot"`
	Interface   string         `json:"interface,omitempty"`
	Attrs       map[string]any `json:"attrs,omitempty"`
	Apps        []string       `json:"apps,omitempty"`
	Label       string         `json:"label,omitempty"`
	Connections []PlugRef      `json:"connections,omitempty"`
}

// Connection is one between a plug and a slot.
type Connection struct {
	Slot      SlotRef        `json:"slot"`
	Plug      PlugRef        `json:"plug"`
	Interface string         `json:"interface"`
	Manual    bool           `json:"manual,omitempty"` // it was asked for
	SlotAttrs map[string]any `json:"slot-attrs,omitempty"`
	PlugAttrs map[string]any `json:"plug-attrs,omitempty"`
}

// Connections are the result of /v2/connections: of one snap or of all.
type Connections struct {
	Established []Connection `json:"established"`
	Undesired   []Connection `json:"undesired,omitempty"` // the operator took them away
	Plugs       []Plug       `json:"plugs"`
	Slots       []Slot       `json:"slots"`
}

// Interface is an element of the result of /v2/interfaces.
type Interface struct {
	Name    string `json:"name"`
	Summary string `json:"summary,omitempty"`
	DocURL  string `json:"doc-url,omitempty"`
	Plugs   []Plug `json:"plugs,omitempty"`
	Slots   []Slot `json:"slots,omitempty"`
}

// InterfaceRequest is the body of POST /v2/interfaces.
type InterfaceRequest struct {
	Action string    `json:"action"` // "connect" or "disconnect"
	Plugs  []PlugRef `json:"plugs"`
	Slots  []SlotRef `json:"slots"`
	// Forget, with disconnect: nothing is remembered, and what is connected
	// without being asked for may be connected again.
	Forget bool `json:"forget,omitempty"`
}

// Connections lists what is connected: of a snap, or of all if that is "". With
// all, also what is not connected.
func (c *Client) Connections(ctx context.Context, snapName string, all bool) (*Connections, error) {
	q := url.Values{}
	if snapName != "" {
		q.Set("snap", snapName)
	}
	if all {
		q.Set("select", "all")
	}
	var out Connections
	if err := c.get(ctx, "/v2/connections", q, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Interfaces lists interfaces: the named ones, or all. With ends, their plugs
// and slots, too; without unused, only those that have some.
func (c *Client) Interfaces(ctx context.Context, names []string, ends, unused bool) ([]Interface, error) {
	q := url.Values{"select": {"connected"}, "doc": {"true"}}
	if unused {
		q.Set("select", "all")
	}
	if len(names) > 0 {
		q.Set("names", strings.Join(names, ","))
	}
	q.Set("plugs", strconv.FormatBool(ends))
	q.Set("slots", strconv.FormatBool(ends))
	var out []Interface
	err := c.get(ctx, "/v2/interfaces", q, &out)
	return out, err
}

// ChangeConnection connects or disconnects.
func (c *Client) ChangeConnection(ctx context.Context, r InterfaceRequest) (changeID string, err error) {
	return c.start(ctx, "/v2/interfaces", r)
}
