// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Error is what the service manager answered. Two of them are the same for
// errors.Is if their names are.
type Error struct {
	Name    string // D-Bus error name
	Message string
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Name
	}
	return e.Message
}

// Is compares names.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Name == e.Name
}

// nobody says that the bus answered because PID 1 is not on it: it executes
// itself anew.
func (e *Error) nobody() bool {
	const prefix = "org.freedesktop.DBus.Error."
	switch e.Name {
	case prefix + "NoReply", prefix + "Disconnected", prefix + "ServiceUnknown", prefix + "NameHasNoOwner":
		return true
	}
	return strings.HasPrefix(e.Name, prefix+"Spawn.")
}

// What the service manager answers, for errors.Is.
var (
	ErrNoSuchUnit    = &Error{Name: "org.freedesktop.systemd1.NoSuchUnit"}
	ErrNoSuchProcess = &Error{Name: "org.freedesktop.systemd1.NoSuchProcess"}
	ErrNoSuchJob     = &Error{Name: "org.freedesktop.systemd1.NoSuchJob"}
	ErrUnitExists    = &Error{Name: "org.freedesktop.systemd1.UnitExists"}
	ErrUnitMasked    = &Error{Name: "org.freedesktop.systemd1.UnitMasked"}
	// ErrConnectionLost says that the connection broke under a call that
	// must not be repeated blindly; whether it took effect is not known.
	ErrConnectionLost = errors.New("connection to systemd lost during the call")
)

// convert turns godbus' errors into ours.
func convert(err error) error {
	var e dbus.Error
	if errors.As(err, &e) {
		out := &Error{Name: e.Name}
		if len(e.Body) > 0 {
			out.Message, _ = e.Body[0].(string)
		}
		return out
	}
	return err
}

// JobError says that a job did not do what it was enqueued for.
type JobError struct {
	Unit   string
	Verb   string // "start", "stop" or "restart"
	Result string // "canceled", "timeout", "failed" or "dependency"
}

func (e *JobError) Error() string {
	why := "job " + e.Result
	switch e.Result {
	case "failed":
		why = "unit failed"
	case "canceled":
		why = "job was canceled"
	case "timeout":
		why = "job timed out"
	case "dependency":
		why = "a unit that it needs failed"
	}
	return fmt.Sprintf("cannot %s %s: %s", e.Verb, e.Unit, why)
}
