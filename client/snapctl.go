// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// SnapSocket is where the daemon listens for programs of snaps.
const SnapSocket = "/run/snapd/snapd-snap.socket"

// SnapctlRequest is a call of snapctl. The context that snapd's snapctl sends
// besides is not looked at.
type SnapctlRequest struct {
	ContextID string   `json:"context-id"`
	Args      []string `json:"args"`
}

// SnapctlResult is what it prints and how it exits.
type SnapctlResult struct {
	Stdout   string `json:"stdout,omitempty"`
	Stderr   string `json:"stderr,omitempty"`
	ExitCode int    `json:"exit-code,omitempty"`
}

// Snapctl carries out a call of snapctl, for the snap that this process is of.
// The client's socket is SnapSocket.
func (c *Client) Snapctl(ctx context.Context, args []string) (*SnapctlResult, error) {
	var out SnapctlResult
	_, err := c.do(ctx, request{method: http.MethodPost, path: "/v2/snapctl", value: SnapctlRequest{Args: args}}, &out)
	var refused *Error
	if errors.As(err, &refused) && refused.Kind == KindUnsuccessful {
		raw, merr := json.Marshal(refused.Value)
		if merr == nil {
			merr = json.Unmarshal(raw, &out)
		}
		return &out, merr
	}
	return &out, err
}
