// SPDX-License-Identifier: Apache-2.0

// Package store finds revisions of snaps and fetches them. A Store may be a
// directory on this machine or on a medium (Dir); remote ones answer the same
// questions. Who asks verifies what was fetched: see Fetch.
package store

import (
	"context"
	"fmt"
	"io"
	"strings"

	"endured/snap"
)

// Store is where snaps come from.
type Store interface {
	// Resolve answers each action, in order: which revision it is about, or why
	// there is none. The error is about the store as a whole.
	Resolve(ctx context.Context, actions []Action) ([]Result, error)
	// Details describes one snap with all that is released of it. The error is
	// a *NotFoundError if the store does not have it.
	Details(ctx context.Context, name string) (*Details, error)
	// Search lists snaps whose name, title or summary holds the words, by name;
	// "" lists all.
	Search(ctx context.Context, words string) ([]*Details, error)
	// Open returns the bytes of a revision, whose length the caller knows.
	Open(ctx context.Context, s *Snap) (io.ReadCloser, error)
}

// Action asks for one snap.
type Action struct {
	Name string
	// Channel is where to look; its zero value is latest/stable.
	Channel Channel
	// Revision, if set, is the one wanted, in whichever channel it is.
	Revision snap.Revision
	// Current is the installed revision, unset for an installation. A store may
	// leave out the metadata of a revision that is installed.
	Current snap.Revision
}

// Result answers an Action: one of the two is nil. Err is a *NotFoundError, a
// *RevisionError, a *ChannelError, or what kept the store from knowing.
type Result struct {
	Snap *Snap
	Err  error
}

// Snap is one revision as a store offers it.
type Snap struct {
	Name     string        `json:"name"`
	Revision snap.Revision `json:"revision"`
	Version  string        `json:"version,omitempty"`
	// Channel is where it was found, which may be a more stable one than was
	// asked for; "" when it was asked for by revision.
	Channel string `json:"channel,omitempty"`
	SHA3    string `json:"sha3-384"` // of the file, in hex
	Size    int64  `json:"size"`     // of the file, in bytes
	Ref     string `json:"ref"`      // what the store itself finds it by
	// YAML is its meta/snap.yaml, Hooks are all that it has, sorted: also those
	// that only lie in meta/hooks.
	YAML  []byte   `json:"-"`
	Hooks []string `json:"hooks,omitempty"`
}

// Details describes a snap of the store.
type Details struct {
	Snap             // the revision that latest/stable has, else the newest
	Releases []*Snap // the newest of every open channel; Channel says which
}

// NotFoundError says that the store does not have a snap.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("snap %q not found", e.Name) }

// RevisionError says that the store has a snap, but not that revision.
type RevisionError struct {
	Name     string
	Revision snap.Revision
}

func (e *RevisionError) Error() string {
	return fmt.Sprintf("cannot find revision %s of snap %q in the store", e.Revision, e.Name)
}

// ChannelError says that nothing is released in a channel of a snap.
type ChannelError struct {
	Name    string
	Channel Channel
	Open    []string // the channels that have something
}

func (e *ChannelError) Error() string {
	return fmt.Sprintf("cannot find snap %q in channel %q; there is %s", e.Name, e.Channel, strings.Join(e.Open, ", "))
}

// SumError says that what was fetched is not what the store had described.
type SumError struct {
	Name     string
	Revision snap.Revision
	What     string // what differs
}

func (e *SumError) Error() string {
	return fmt.Sprintf("cannot use revision %s of snap %q: %s is not what the store's index says", e.Revision, e.Name, e.What)
}
