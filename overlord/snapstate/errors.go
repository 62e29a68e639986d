// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"fmt"

	"endured/snap"
)

// NotInstalledError says that a snap, or one revision of it, is not installed.
type NotInstalledError struct {
	Snap     string
	Revision snap.Revision // 0 when the snap as a whole is meant
}

func (e *NotInstalledError) Error() string {
	if e.Revision.Unset() {
		return fmt.Sprintf("snap %q is not installed", e.Snap)
	}
	return fmt.Sprintf("revision %s of snap %q is not installed", e.Revision, e.Snap)
}

// ConflictError says that another change works on the snap.
type ConflictError struct {
	Snap       string
	ChangeKind string
	ChangeID   string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("snap %q has %q change in progress", e.Snap, e.ChangeKind)
}

// AppNotFoundError says that a snap has no such app or service.
type AppNotFoundError struct{ Snap, App string }

func (e *AppNotFoundError) Error() string {
	return fmt.Sprintf("snap %q has no service %q", e.Snap, e.App)
}
