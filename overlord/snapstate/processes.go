// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"endured/osutil"
	"endured/snap"
)

// Process is one of a snap's: of a service, of a scope that an earlier refresh
// left, or of an app.
type Process struct {
	PID  int    `json:"pid"`
	Unit string `json:"unit"`
	App  string `json:"app"`
	// Revision that it was started from, as its environment or executable say;
	// 0 if neither does.
	Revision snap.Revision `json:"revision"`
	// Snap is set for a process of another snap than the one in question.
	Snap string `json:"snap,omitempty"`
}

// slice holds the services and scopes of snaps.
const slice = "system.slice"

var unitName = regexp.MustCompile(`^snap\.[^.]+\.([^.]+?)(?:-r(?:x?[0-9]+)-[^-]+|-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?\.(?:service|scope)$`)

// Processes lists every process of the snap, by unit. It looks at cgroups alone
// and asks PID 1 only where they are.
func (m *Manager) Processes(ctx context.Context, rec *Record) ([]Process, error) {
	out, err := m.inUnits(ctx, func(snapName string) bool { return snapName == rec.Name })
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of snap %q: %w", rec.Name, err)
	}
	for i := range out {
		out[i].Snap, out[i].Revision = "", m.revisionOfPID(rec, out[i].PID)
	}
	return out, nil
}

// Others lists every process of other snaps, without its revision.
func (m *Manager) Others(ctx context.Context, rec *Record) ([]Process, error) {
	out, err := m.inUnits(ctx, func(snapName string) bool { return snapName != rec.Name })
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of other snaps than %q: %w", rec.Name, err)
	}
	return out, nil
}

func (m *Manager) inUnits(ctx context.Context, of func(snapName string) bool) ([]Process, error) {
	sts, err := m.Systemd.Status(ctx, slice)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(m.CgroupRoot, sts[0].ControlGroup)
	if sts[0].ControlGroup == "" {
		dir = filepath.Join(m.CgroupRoot, slice)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var out []Process
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "snap.")
		snapName, _, dot := strings.Cut(rest, ".")
		if !e.IsDir() || !ok || !dot || !of(snapName) {
			continue
		}
		app := ""
		if g := unitName.FindStringSubmatch(e.Name()); g != nil {
			app = g[1]
		}
		pids, err := osutil.PIDsInCgroup(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			out = append(out, Process{PID: pid, Unit: e.Name(), App: app, Snap: snapName})
		}
	}
	return out, nil
}
