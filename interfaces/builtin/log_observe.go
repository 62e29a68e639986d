// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func logObserve() interfaces.Interface {
	return host("log-observe", "reads the system's logs", interfaces.Manual, gift{
		rules: []string{
			"/var/log/{,**} r,",
			"/run/log/journal/{,**} r,",
			"/{run,var/lib}/systemd/journal/{,**} r,",
			"/dev/kmsg r,",
			"/proc/sys/kernel/{dmesg_restrict,printk} r,",
		},
		capabilities: []string{"CAP_SYSLOG"},
		seccomp:      []string{"syslog"},
	})
}
