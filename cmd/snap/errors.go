// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"endured/client"
	"endured/snap"
)

// The exit statuses, as snapd's client has them.
const (
	exitFailure  = 1
	exitBusy     = 10
	exitSquashfs = 20
	exitUsage    = 64
)

// usageError is a wrong command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usageErrorf(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exit prints an error with what may help, and returns the exit status.
func (a *app) exit(err error) int {
	if err == nil {
		return 0
	}
	a.tell("error: " + a.explain(err))
	var (
		usage    *usageError
		squashfs *snap.PackError
	)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case client.IsKind(err, client.KindConflict):
		return exitBusy
	case errors.As(err, &squashfs):
		return exitSquashfs
	}
	return exitFailure
}

// explain adds to an error what the user may try.
func (a *app) explain(err error) string {
	var down *client.ConnectError
	if errors.As(err, &down) {
		return err.Error() + "\nIs snapd running? See 'systemctl status snapd.socket snapd.service'."
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	var refusal *client.Error
	if !errors.As(err, &refusal) {
		return err.Error()
	}
	text, value := err.Error(), refusal.Value
	switch refusal.Kind {
	case client.KindLoginRequired:
		if a.uid != 0 {
			text += " (only root may; run it with sudo)"
		}
	case client.KindConflict:
		if m, ok := value.(map[string]any); ok {
			if id, _ := m["change-id"].(string); id != "" {
				text += fmt.Sprintf(" (see 'snap tasks %s')", id)
			}
		}
	case client.KindNotFound:
		if name, _ := value.(string); name != "" {
			text = fmt.Sprintf("snap %q not found", name)
		}
	case client.KindNeedsClassic:
		text += "\nIt may then change all of this system. If you want that, repeat the command with --classic."
	case client.KindNeedsDevmode:
		text += "\nIf you trust it, repeat the command with --devmode."
	case client.KindAppsRunning:
		text += "\nEnd them first, or repeat the command with --terminate."
	case client.KindRevisionBusy:
		text += "\nEnd those processes first; 'snap restart' starts services on the current revision."
	case client.KindInsufficientSpace:
		text += "\nOld revisions may be removed: see 'snap list --all' and 'snap remove --revision'."
	}
	return text
}
