// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"endured/overlord/lifecycle"
)

// rejoin puts workers that this change has moved into scopes back beside their
// main, where that one was not ended after all: a refresh that fails changes
// nothing for them. Those whose main is gone stay survivors, as its refresh-mode
// says. What cannot be put back is reported; it is no reason to go back less.
func (sw *Switch) rejoin(ctx context.Context) {
	for _, s := range sw.steps() {
		if !s.Survivors || s.Delegated || s.MainPID == 0 {
			continue
		}
		if err := sw.rejoinService(ctx, s); err != nil && ctx.Err() == nil {
			sw.task.Log("Workers of %s.%s stay in a scope of their own: %v", sw.setup.Snap, s.App, err)
		}
	}
}

func (sw *Switch) rejoinService(ctx context.Context, s lifecycle.Step) error {
	sts, err := sw.m.Systemd.Status(ctx, s.Unit, systemSlice)
	if err != nil {
		return err
	}
	st := sts[0]
	if st.InvocationID != s.InvocationID || st.MainPID != s.MainPID || st.ControlGroup == "" || st.JobID != 0 {
		return nil
	}
	scope := fmt.Sprintf("snap.%s.%s-r%s-%s.*.scope", sw.setup.Snap, s.App, s.From, sw.task.ChangeID())
	dirs, err := filepath.Glob(filepath.Join(sw.m.CgroupRoot, sts[1].ControlGroup, scope))
	if err != nil || len(dirs) == 0 {
		return err
	}
	home := filepath.Join(sw.m.CgroupRoot, st.ControlGroup, "cgroup.procs")
	for range moveAttempts { // they may fork meanwhile
		pids, err := pidsIn(dirs)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, p := range pids {
			if err := os.WriteFile(home, []byte(strconv.Itoa(p)), 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("cannot move pid %d to %s: %w", p, s.Unit, err)
			}
		}
	}
	return errors.New("there are always more")
}
