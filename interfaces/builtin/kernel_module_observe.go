// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func kernelModuleObserve() interfaces.Interface {
	return host("kernel-module-observe", "reads which kernel modules are loaded and how they are set", interfaces.Manual, gift{
		rules: []string{
			"/proc/modules r,",
			"/proc/sys/kernel/modules_disabled r,",
			"/sys/module/{,**} r,",
			"/etc/{modprobe.d,modules-load.d}/{,*} r,",
			"/etc/modules r,",
			"/{,usr/}lib/modules/{,**} r,",
		},
	})
}
