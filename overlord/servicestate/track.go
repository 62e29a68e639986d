// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"endured/interfaces/mount"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// trackLimit is how long a start may keep a switch of the snap waiting.
const trackLimit = 10 * time.Second

// Tracked is what a process becomes that is about to be an app.
type Tracked struct {
	Revision snap.Revision // to run, which is in use from now on
	Sandbox  wrappers.Sandbox
}

// Track puts a process that is about to become an app into a scope of its own.
// pid must be the caller's own. A switch that is in progress is waited for.
func (m *Manager) Track(ctx context.Context, pid int, snapName, app string) (*Tracked, error) {
	leave, err := m.Snaps.Enter(ctx, snapName)
	if err != nil {
		return nil, err
	}
	defer leave()
	info, err := m.Snaps.Serving(snapName)
	if err != nil {
		return nil, err
	}
	if a := info.Apps[app]; a == nil || a.IsService() {
		return nil, &snapstate.AppNotFoundError{Snap: snapName, App: app}
	}
	sandbox, err := wrappers.AppSandbox(info.Apps[app], m.Wrap)
	if err == nil && len(sandbox.Mounts) > 0 {
		err = wrappers.EnsurePrivateTmp(info, m.Wrap)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range sandbox.Content {
		if err := mount.MakeTarget(p); err != nil { // the app will say so
			m.Log.Warn("an app may lack what other snaps share with it", "snap", snapName, "err", err)
		}
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
		return nil, fmt.Errorf("cannot track pid %d: %w", pid, err)
	}
	result, err := job.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot track pid %d: %w", pid, err)
	}
	if result != "done" {
		return nil, fmt.Errorf("cannot track pid %d: the job of its scope ended as %q", pid, result)
	}
	return &Tracked{info.Revision, sandbox}, nil
}
