// SPDX-License-Identifier: Apache-2.0

package confinement

import (
	"strings"
	"testing"
)

func TestRunPaths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ rules, want string }{
		{"network inet,", ""},
		{"/etc/x r,", ""},
		{"/{,var/}run/dbus/system_bus_socket rw,", "/run/dbus"},
		{"owner /run/user/[0-9]*/bus rw,", "/run/user"},
		{"/run/{NetworkManager,connman}/resolv.conf r,|/run/utmp rk,", "/run/NetworkManager /run/connman /run/utmp"},
		{"/run/systemd/resolve/{,io.systemd.Resolve} rw,", "/run/systemd/resolve"},
		{"/{run,var/lib}/systemd/journal/{,**} r,", "/run/systemd/journal"},
		{"/run/systemd/{sessions,users/{a,b}} r,", "/run/systemd/sessions /run/systemd/users"},
		{"/run/systemd/{,**} r,", ""},
		{"deny /run/snapd/{,**} wl,", ""},
		{"/{,**} rwlkm,", "/run"},
		{"/run/{,**} rw,", "/run"},
		{"signal (send),", ""},
	} {
		if got := strings.Join(runPaths(strings.Split(c.rules, "|")), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.rules, got, c.want)
		}
	}
}
