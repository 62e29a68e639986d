// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"net/http"
	"syscall"

	"endured/client"
	"endured/interfaces"
	"endured/overlord/configstate"
	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/snap"
)

// failure turns an error of the backend into an answer. An error without a
// type of its own is a request that cannot be carried out: 400.
func failure(err error) *response { return failureOr(err, http.StatusBadRequest) }

// failureOr is failure with another status for errors without a type.
func failureOr(err error, fallback int) *response {
	status, e := classify(err)
	if status == 0 {
		status = fallback
	}
	e.Message = err.Error()
	return &response{typ: "error", status: status, result: e, harmless: true}
}

// classify finds the status, kind and value of an error; status 0 is unknown.
func classify(err error) (status int, e *client.Error) {
	var (
		notInstalled *snapstate.NotInstalledError
		conflict     *snapstate.ConflictError
		noApp        *snapstate.AppNotFoundError
		noService    *lifecycle.UnknownServiceError
		running      *lifecycle.RunningAppsError
		busy         *lifecycle.BusyRevisionError
		badFile      *snap.FileError
		badYAML      *snap.InvalidError
		cannotUse    *snap.UnsupportedError
		needsFlag    *recipes.NeedsFlagError
		noOption     *configstate.NoOptionError
		unchanged    *interfaces.UnchangedError
		noSnap       *interfaces.NoSnapError
	)
	switch {
	case errors.As(err, &unchanged):
		return http.StatusBadRequest, &client.Error{Kind: client.KindUnchanged}
	case errors.As(err, &noSnap):
		return http.StatusBadRequest, &client.Error{Kind: client.KindNotInstalled, Value: noSnap.Snap}
	case errors.As(err, &notInstalled):
		return http.StatusBadRequest, &client.Error{Kind: client.KindNotInstalled, Value: notInstalled.Snap}
	case errors.As(err, &conflict):
		return http.StatusConflict, &client.Error{Kind: client.KindConflict, Value: map[string]string{
			"snap-name": conflict.Snap, "change-kind": conflict.ChangeKind, "change-id": conflict.ChangeID,
		}}
	case errors.As(err, &noApp), errors.As(err, &noService):
		return http.StatusNotFound, &client.Error{Kind: client.KindAppNotFound}
	case errors.As(err, &running):
		pids := []int{}
		for _, p := range running.Apps {
			pids = append(pids, p.PID)
		}
		return http.StatusBadRequest, &client.Error{Kind: client.KindAppsRunning,
			Value: map[string]any{"snap-name": running.Snap, "pids": pids}}
	case errors.As(err, &busy):
		return http.StatusBadRequest, &client.Error{Kind: client.KindRevisionBusy,
			Value: map[string]any{"snap-name": busy.Snap, "revision": busy.Revision, "pids": busy.PIDs}}
	case errors.As(err, &noOption):
		return http.StatusBadRequest, &client.Error{Kind: client.KindNoOption,
			Value: map[string]string{"SnapName": noOption.Snap, "Key": noOption.Key}}
	case errors.As(err, &needsFlag):
		kind := client.KindNeedsDevmode
		if needsFlag.Flag == "classic" {
			kind = client.KindNeedsClassic
		}
		return http.StatusBadRequest, &client.Error{Kind: kind, Value: needsFlag.Snap}
	case errors.As(err, &badFile), errors.As(err, &badYAML), errors.As(err, &cannotUse):
		return http.StatusBadRequest, &client.Error{}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return http.StatusInsufficientStorage, &client.Error{Kind: client.KindInsufficientSpace}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, &client.Error{}
	}
	return classifyStore(err)
}

// notFound answers for a snap that a GET names, or a POST to /v2/apps.
func notFound(name, message string) *response {
	return &response{typ: "error", status: http.StatusNotFound, harmless: true,
		result: &client.Error{Kind: client.KindNotFound, Value: name, Message: message}}
}
