// SPDX-License-Identifier: Apache-2.0

package servicestate

import (
	"context"
	"time"

	"endured/overlord/snapstate"
	"endured/systemd"
)

// settleLimit bounds the wait for starts that are under way.
const settleLimit = 5 * time.Second

// settle gives starts that are under way, as at boot, the time to become what a
// plan can be made of: a service that is about to run does not run yet. What
// takes longer is taken as it is.
func (m *Manager) settle(ctx context.Context, s *snapstate.Setup) error {
	from, _, _, err := m.Snaps.Sides(s)
	if err != nil || from == nil {
		return err
	}
	sctx, stop := context.WithTimeout(ctx, settleLimit)
	defer stop()
	for _, a := range from.Services() {
		_, err := m.Systemd.WaitUnit(sctx, a.Unit(), func(st systemd.UnitStatus) bool { return st.JobID == 0 || st.AtWork() })
		if err != nil && sctx.Err() == nil {
			return err
		}
	}
	return ctx.Err()
}
