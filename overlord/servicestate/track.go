// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"endured/overlord/snapstate"
	"endured/snap"
	"endured/systemd"
)

// trackLimit is how long a start may keep a switch of the snap waiting.
const trackLimit = 10 * time.Second

// Track puts a process that is about to become an app into a scope of its own,
// and returns the revision that it is to run: from then on that one is in use.
// pid must be the caller's own. A switch that is in progress is waited for.
func (m *Manager) Track(ctx context.Context, pid int, snapName, app string) (snap.Revision, error) {
	leave, err := m.Snaps.Enter(ctx, snapName)
	if err != nil {
		return 0, err
	}
	defer leave()
	info, err := m.Snaps.Serving(snapName)
	if err != nil {
		return 0, err
	}
	if a := info.Apps[app]; a == nil || a.IsService() {
		return 0, &snapstate.AppNotFoundError{Snap: snapName, App: app}
	}
	ctx, stop := context.WithTimeout(ctx, trackLimit)
	defer stop()
	job, err := m.Systemd.StartTransientScope(ctx, systemd.ScopeSpec{
		Name:        fmt.Sprintf("snap.%s.%s-%s.scope", snapName, app, uuid.NewString()),
		Description: fmt.Sprintf("App %s.%s of revision %s", snapName, app, info.Revision),
		PIDs:        []int{pid},
		Properties:  []systemd.Property{{Name: "TimeoutStopUSec", Value: snap.DefaultStopTimeout}},
	})
	if err != nil {
		return 0, fmt.Errorf("cannot track pid %d: %w", pid, err)
	}
	result, err := job.Wait(ctx)
	if err != nil {
		return 0, fmt.Errorf("cannot track pid %d: %w", pid, err)
	}
	if result != "done" {
		return 0, fmt.Errorf("cannot track pid %d: the job of its scope ended as %q", pid, result)
	}
	return info.Revision, nil
}
