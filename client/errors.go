// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// The kinds of errors. They are part of the API: a client may act on them.
const (
	KindLoginRequired    = "login-required"
	KindConflict         = "snap-change-conflict"
	KindNotFound         = "snap-not-found"
	KindNotInstalled     = "snap-not-installed"
	KindAlreadyInstalled = "snap-already-installed"
	KindNoUpdate         = "snap-no-update-available"
	KindNeedsClassic     = "snap-needs-classic"
	KindNeedsDevmode     = "snap-needs-devmode"
	KindNotClassic       = "snap-not-classic"
	KindLocal            = "snap-local"
	// KindNoChannel says that nothing is released in a channel; the value is
	// {"snap-name", "action", "channel", "architecture", "releases"}.
	KindNoChannel        = "snap-channel-not-available"
	KindRevisionNotFound = "snap-revision-not-available"
	KindAppNotFound      = "app-not-found"
	// KindNoOption says that an option is not set; the value is {"SnapName", "Key"}.
	KindNoOption = "option-not-found"
	// KindUnchanged says that there is nothing to disconnect.
	KindUnchanged         = "interfaces-unchanged"
	KindInsufficientSpace = "insufficient-disk-space"
	// KindUnsuccessful says that snapctl exits with another status than 0; the
	// value is a SnapctlResult.
	KindUnsuccessful = "unsuccessful"
	// KindAppsRunning (additive) refuses what would end running apps; the value
	// is {"snap-name", "pids"}.
	KindAppsRunning = "snap-apps-running"
	// KindRevisionBusy (additive) refuses to make a revision current again that
	// has processes left over; the value is {"snap-name", "revision", "pids"}.
	KindRevisionBusy = "snap-revision-busy"
)

// Error is a refusal by the daemon.
type Error struct {
	Kind       string `json:"kind,omitempty"`
	Value      any    `json:"value,omitempty"`
	Message    string `json:"message"`
	StatusCode int    `json:"-"` // of HTTP
}

func (e *Error) Error() string { return e.Message }

// IsKind tells whether err is a refusal of this kind.
func IsKind(err error, kind string) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// ConnectError says that no daemon answered.
type ConnectError struct{ Err error }

func (e *ConnectError) Error() string {
	return fmt.Sprintf("cannot reach snapd: %v", e.Err)
}

func (e *ConnectError) Unwrap() error { return e.Err }

func errorOf(resp *http.Response, e *Envelope) error {
	out := &Error{StatusCode: resp.StatusCode}
	if err := json.Unmarshal(e.Result, out); err != nil || out.Message == "" {
		out.Message = fmt.Sprintf("server error: %q", http.StatusText(resp.StatusCode))
	}
	return out
}
