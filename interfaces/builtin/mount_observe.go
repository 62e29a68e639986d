// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func mountObserve() interfaces.Interface {
	return host("mount-observe", "reads mount tables and quotas", interfaces.Manual, gift{
		rules: []string{
			"/proc/[0-9]*/{mounts,mountinfo,mountstats} r,",
			"/proc/partitions r,",
			"/etc/fstab r,",
			"/run/mount/utab r,",
			"/sys/block/{,**} r,",
		},
	})
}
