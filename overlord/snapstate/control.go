// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"fmt"

	"endured/overlord/lifecycle"
	"endured/overlord/state"
)

// Control is what a "control-services" task does to the services of one snap.
type Control struct {
	Snap    string          `json:"snap"`
	Event   lifecycle.Event `json:"event"`
	Apps    []string        `json:"apps,omitempty"` // empty: all services
	Enable  bool            `json:"enable,omitempty"`
	Disable bool            `json:"disable,omitempty"`
	Reload  bool            `json:"reload,omitempty"`
}

// ControlKey is where such a task has its Control.
const ControlKey = "control"

// ControlTask makes a task that starts, stops or restarts services.
func ControlTask(tx *state.Tx, c *Control) (*state.Task, error) {
	t, err := TaskFor(tx, &Setup{Snap: c.Snap}, "control-services",
		fmt.Sprintf("Run service command %q for services of snap %q", string(c.Event), c.Snap))
	if err != nil {
		return nil, err
	}
	return t, t.Set(ControlKey, c)
}
