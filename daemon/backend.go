// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"io"

	"endured/interfaces"
	"endured/overlord/hookstate"
	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/servicestate"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/store"
)

// Backend is what the daemon needs of the overlord. Methods that return a
// change id have begun a change; the others change nothing, but for Track.
type Backend interface {
	// InstallFile takes over the file at path, which lies in dirs.Blobs().
	InstallFile(ctx context.Context, path string, o recipes.InstallOptions) (changeID string, err error)
	// InstallFiles takes over several files, in one change.
	InstallFiles(ctx context.Context, files []recipes.LocalFile, o recipes.InstallOptions) (changeID string, err error)
	// PlanInstallFile reads the file where it is, and writes nothing.
	PlanInstallFile(ctx context.Context, path string, o recipes.InstallOptions) (*lifecycle.Plan, error)
	// InstallNames and Refresh take from the store; no names to refresh are all.
	InstallNames(ctx context.Context, names []string, o recipes.StoreOptions) (changeID string, err error)
	PlanInstallNames(ctx context.Context, names []string, o recipes.StoreOptions) ([]*lifecycle.Plan, error)
	Refresh(ctx context.Context, names []string, o recipes.StoreOptions) (changeID string, err error)
	PlanRefresh(ctx context.Context, names []string, o recipes.StoreOptions) ([]*lifecycle.Plan, error)
	// Updates lists the refreshes that are possible, with what each would do.
	Updates(ctx context.Context) ([]recipes.Update, error)
	SwitchChannel(ctx context.Context, name, channel string) (changeID string, err error)
	// RefreshTimes is when snaps are refreshed by themselves, and until when not.
	RefreshTimes() (timer, hold string)
	// Download returns a revision of the store and its file, to be verified.
	Download(ctx context.Context, name, channel string, rev snap.Revision) (*store.Snap, io.ReadCloser, error)
	// Hold keeps snaps from being refreshed with others, or without names
	// refreshes from beginning by themselves; Unhold takes that back.
	Hold(ctx context.Context, names []string, h snapstate.Hold) (changeID string, err error)
	Unhold(ctx context.Context, names []string) (changeID string, err error)
	// Details and Search ask the store.
	Details(ctx context.Context, name string) (*store.Details, error)
	Search(ctx context.Context, words string) ([]*store.Details, error)
	Revert(ctx context.Context, name string, rev snap.Revision) (changeID string, err error)
	PlanRevert(ctx context.Context, name string, rev snap.Revision) (*lifecycle.Plan, error)
	Remove(ctx context.Context, names []string, o recipes.RemoveOptions) (changeID string, err error)
	PlanRemove(ctx context.Context, names []string, o recipes.RemoveOptions) ([]*lifecycle.Plan, error)
	Enable(ctx context.Context, name string) (changeID string, err error)
	Disable(ctx context.Context, name string) (changeID string, err error)
	Services(ctx context.Context, r recipes.ServicesRequest) (changeID string, err error)
	// Configuration returns options by the dotted keys asked for, or all of them.
	Configuration(name string, keys []string) (map[string]any, error)
	// Configure sets options by dotted key; nil unsets.
	Configure(ctx context.Context, name string, values map[string]any) (changeID string, err error)
	// Repository tells what is connected.
	Repository() (*interfaces.Repository, error)
	// Connect and Disconnect take ends of which parts may be left out.
	Connect(ctx context.Context, plug, slot interfaces.End) (changeID string, err error)
	Disconnect(ctx context.Context, plug, slot interfaces.End, forget bool) (changeID string, err error)
	// Snaps lists installed revisions by name, then sequence: those of names, or
	// of all snaps; the current ones, or all.
	Snaps(ctx context.Context, names []string, all bool) ([]recipes.SnapView, error)
	// ServiceViews lists the services of names ("snap" or "snap.app"), or of all snaps.
	ServiceViews(ctx context.Context, names []string) ([]servicestate.View, error)
	// Track puts a process, which is the caller itself, into a scope of its own
	// and tells what to run, and in what.
	Track(ctx context.Context, pid int, snapName, app string) (*servicestate.Tracked, error)
	// Confined returns the snap whose program a process is, if that is confined
	// strictly, else "".
	Confined(pid int) (snapName string, err error)
	// Identify finds out which snap a process belongs to.
	Identify(pid int) (*hookstate.Caller, error)
	// Snapctl carries out a call of snapctl.
	Snapctl(ctx context.Context, who *hookstate.Caller, args []string) (*hookstate.Answer, error)
	// Abort asks an unfinished change to undo what it did.
	Abort(id string) error
	// State holds the changes and the warnings.
	State() *state.State
}
