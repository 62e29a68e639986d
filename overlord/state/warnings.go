// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// How long a warning lives after it was last added, and how long it is quiet
// after it was okayed.
const (
	warningExpiry = 28 * 24 * time.Hour
	warningRepeat = 24 * time.Hour
)

// Warning is something that the user should know, named by its text.
type Warning struct {
	Message     string        `json:"message"`
	FirstAdded  time.Time     `json:"first-added"`
	LastAdded   time.Time     `json:"last-added"`
	LastShown   time.Time     `json:"last-shown,omitzero"` // when it was okayed
	ExpireAfter time.Duration `json:"expire-after"`        // since LastAdded
	RepeatAfter time.Duration `json:"repeat-after"`        // since LastShown
}

// Pending tells whether the warning is to be shown: it was never okayed, or
// added again when its time of quiet was over.
func (w Warning) Pending() bool {
	return w.LastShown.IsZero() || w.LastAdded.After(w.LastShown.Add(w.RepeatAfter))
}

// Expired tells whether the warning was not added for so long that it is void.
func (w Warning) Expired() bool { return time.Since(w.LastAdded) > w.ExpireAfter }

// Warnf adds a warning, or notes that it has come up again.
func (tx *Tx) Warnf(format string, args ...any) {
	now := time.Now().UTC()
	w := Warning{
		Message: fmt.Sprintf(format, args...), FirstAdded: now,
		ExpireAfter: warningExpiry, RepeatAfter: warningRepeat,
	}
	if w.Message == "" {
		return
	}
	if raw := tx.b.Bucket(bucketWarnings).Get([]byte(w.Message)); raw != nil {
		var old Warning
		if err := decode(raw, &old); err == nil && !old.Expired() {
			w = old
		}
	}
	w.LastAdded = now
	tx.putWarning(w)
}

// Warnings returns all warnings that have not expired, by when they were first
// added. Those to be shown are Pending.
func (tx *Tx) Warnings() []Warning {
	var all []Warning
	tx.eachWarning(func(w Warning) {
		if !w.Expired() {
			all = append(all, w)
		}
	})
	slices.SortFunc(all, func(a, b Warning) int {
		if c := a.FirstAdded.Compare(b.FirstAdded); c != 0 {
			return c
		}
		return strings.Compare(a.Message, b.Message)
	})
	return all
}

// Okay quiets the pending warnings that were last added no later than upto,
// and returns how many that were.
func (tx *Tx) Okay(upto time.Time) int {
	n := 0
	for _, w := range tx.Warnings() {
		if w.Pending() && !w.LastAdded.After(upto) {
			w.LastShown = upto.UTC()
			tx.putWarning(w)
			n++
		}
	}
	return n
}

func (tx *Tx) eachWarning(f func(Warning)) {
	c := tx.b.Bucket(bucketWarnings).Cursor()
	for k, raw := c.First(); k != nil; k, raw = c.Next() {
		var w Warning
		if err := decode(raw, &w); err != nil {
			tx.fail(fmt.Errorf("cannot read warning %q from state: %w", k, err))
			continue
		}
		f(w)
	}
}

func (tx *Tx) putWarning(w Warning) {
	if raw, ok := tx.encode(w.Message, w); ok {
		tx.put(bucketWarnings, []byte(w.Message), raw)
		tx.warned = true
	}
}

// pruneWarnings drops the expired ones.
func (tx *Tx) pruneWarnings() {
	var gone []string
	tx.eachWarning(func(w Warning) {
		if w.Expired() {
			gone = append(gone, w.Message)
		}
	})
	for _, m := range gone {
		tx.remove(bucketWarnings, []byte(m))
	}
}
