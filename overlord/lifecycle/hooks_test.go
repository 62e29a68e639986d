// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"strings"
	"testing"

	"endured/snap"
)

func TestHooks(t *testing.T) {
	t.Parallel()
	with := func(rev snap.Revision, hooks ...string) *snap.Info {
		i := &snap.Info{Name: "demo", Revision: rev, Hooks: map[string]*snap.Hook{}}
		i.AddHooks(hooks...)
		return i
	}
	all := []string{"install", "default-configure", "configure", "pre-refresh", "post-refresh", "remove", "check-health", "gate-auto-refresh"}
	one, two := with(-1, all...), with(-2, all...)
	for _, c := range []struct {
		event     Event
		old, next *snap.Info
		want      string
	}{
		{Install, nil, one, "inside install x1, inside default-configure x1, after configure x1, after check-health x1 ignored"},
		{LocalInstall, one, two, "before pre-refresh x1, inside post-refresh x2, after configure x2, after check-health x2 ignored"},
		{Refresh, one, with(-2, "configure"), "before pre-refresh x1, after configure x2"},
		{Refresh, with(-1), two, "inside post-refresh x2, after configure x2, after check-health x2 ignored"},
		{Revert, two, one, "after configure x1, after check-health x1 ignored"},
		{Remove, two, nil, "before remove x2 ignored"},
		{Configure, one, one, "after configure x1"},
		{Disable, one, nil, ""}, {Enable, nil, one, ""}, {Restart, one, one, ""},
	} {
		var got []string
		for _, h := range Hooks(c.event, c.old, c.next) {
			s := fmt.Sprintf("%s %s %s", h.When, h.Hook, h.Revision)
			if h.Ignored {
				s += " ignored"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s, want %s", c.event, s, c.want)
		}
	}
}
