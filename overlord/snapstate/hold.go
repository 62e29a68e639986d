// SPDX-License-Identifier: Apache-2.0

package snapstate

import "time"

// Hold keeps a snap from being refreshed with others.
type Hold struct {
	// Until is when it ends, its zero value never.
	Until time.Time `json:"until,omitzero"`
	// General tells that also 'snap refresh' of all snaps passes it over, and
	// not only refreshes that begin by themselves.
	General bool `json:"general,omitempty"`
}

// HeldUntil is until when 'snap refresh' of all snaps passes the snap over:
// held is false if it does not. The zero time is never.
func (r *Record) HeldUntil(now time.Time) (until time.Time, held bool) {
	h := r.Hold
	if h == nil || !h.General || !h.Until.IsZero() && !h.Until.After(now) {
		return time.Time{}, false
	}
	return h.Until, true
}
