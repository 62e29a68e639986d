// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"time"
)

// Notice says that something has happened.
type Notice struct {
	ID            string          `json:"id"`
	UserID        *uint32         `json:"user-id"` // nil is everybody
	Type          string          `json:"type"`    // "change-update" or "warning"
	Key           string          `json:"key"`     // the change's id, the warning's text
	FirstOccurred time.Time       `json:"first-occurred"`
	LastOccurred  time.Time       `json:"last-occurred"`
	LastRepeated  time.Time       `json:"last-repeated"`
	Occurrences   int             `json:"occurrences"`
	LastData      json.RawMessage `json:"last-data,omitempty"` // of a change: {"kind"}
	RepeatAfter   string          `json:"repeat-after,omitempty"`
	ExpireAfter   string          `json:"expire-after,omitempty"`
}
