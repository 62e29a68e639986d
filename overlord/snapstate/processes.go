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
}

// slice holds the services and scopes of snaps.
const slice = "system.slice"

var unitName = regexp.MustCompile(`^snap\.[^.]+\.([^.]+?)(?:-r(?:x?[0-9]+)-[^-]+|-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?\.(?:service|scope)$`)

// Processes lists every process of the snap, by unit. It looks at cgroups alone
// and asks PID 1 only where they are.
func (m *Manager) Processes(ctx context.Context, rec *Record) ([]Process, error) {
	sts, err := m.Systemd.Status(ctx, slice)
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of snap %q: %w", rec.Name, err)
	}
	dir := filepath.Join(m.CgroupRoot, sts[0].ControlGroup)
	if sts[0].ControlGroup == "" {
		dir = filepath.Join(m.CgroupRoot, slice)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("cannot list the processes of snap %q: %w", rec.Name, err)
	}
	var out []Process
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), "snap."+rec.Name+".") {
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
			out = append(out, Process{PID: pid, Unit: e.Name(), App: app, Revision: m.revisionOfPID(rec, pid)})
		}
	}
	return out, nil
}
