// SPDX-License-Identifier: Apache-2.0

// Package state is the engine: what is to be done, what was done, and what
// must be undone, durable in one bbolt file. It knows nothing of snaps.
//
// A Change is a request of the user, made of Tasks. A task waits for others,
// belongs to lanes, and is carried out by the Handler of its kind. The handler
// acts without any lock and returns a Commit, which runs in the transaction
// that marks the task Done: the record and the status cannot disagree.
//
// # Rules for handlers
//
// Doing or Undoing is durable before a handler runs, and after a crash the
// handler runs again from the start, so it is idempotent. What it decided, or
// found before it acted, belongs into an earlier task's commit.
//
// An error means that nothing is left behind: an undo handler is not called
// for a task that failed. It is called for a task that was done, and for one
// that was aborted while the daemon was down or while it waited for a Retry;
// Task.Undo then answers ErrNoState, and what may be half done is cleared.
//
// The context is cancelled with the cause ErrAborted when the change is
// aborted, and ErrShutdown when the runner stops. After ErrShutdown any error
// leaves the task as it is, to be run again at the next start.
//
// # Transactions
//
// View and Update take one bbolt transaction each, and an Update that wrote
// nothing costs no write. The end of a task and the start of those that waited
// for it share one: a chain of n tasks costs n+1 durable transactions, besides
// the one that made the change. (A bbolt commit is two fdatasync calls, one
// for the pages and one for the root.) Do not open one inside another.
package state
