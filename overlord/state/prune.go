// SPDX-License-Identifier: Apache-2.0

package state

import "time"

// What is kept of changes.
const (
	pruneEvery = time.Hour
	pruneReady = 24 * time.Hour     // ready changes go after that
	pruneStuck = 3 * 24 * time.Hour // unready ones are aborted after that
	pruneMax   = 500                // ready changes kept, the newest
)

// prune drops old ready changes and expired warnings, and aborts old changes
// that are not ready and of which no handler runs.
func (tx *Tx) prune(running func(changeID string) bool) {
	now := time.Now()
	ready := 0
	all := tx.Changes()
	for i := len(all) - 1; i >= 0; i-- {
		c := all[i]
		switch {
		case c.rec.Ready.IsZero():
			if now.Sub(c.rec.Spawn) > pruneStuck && !running(c.rec.ID) {
				c.Abort()
			}
		case now.Sub(c.rec.Ready) > pruneReady || ready == pruneMax:
			tx.dropChange(c)
		default:
			ready++
		}
	}
	tx.pruneWarnings()
}

// dropChange removes a change and its tasks.
func (tx *Tx) dropChange(c *Change) {
	for _, id := range c.rec.Tasks {
		delete(tx.tasks, id)
		if k, ok := recordKey(id); ok {
			tx.remove(bucketTasks, k)
		}
	}
	delete(tx.changes, c.rec.ID)
	if k, ok := recordKey(c.rec.ID); ok {
		tx.remove(bucketChanges, k)
		tx.remove(bucketUnready, k)
	}
	tx.touched[c.rec.ID] = true
}
