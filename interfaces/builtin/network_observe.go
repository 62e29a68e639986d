// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func networkObserve() interfaces.Interface {
	return host("network-observe", "reads interfaces, routes and connections", interfaces.Manual, gift{
		rules: append(resolving(),
			"network inet dgram,",
			"network inet6 dgram,",
			"network inet raw,",
			"network inet6 raw,",
			"network packet,",
			"/proc/[0-9]*/net/{,**} r,",
			"/proc/sys/net/{,**} r,",
			"/sys/class/net/{,**} r,",
			"/sys/devices/**/net/{,**} r,",
			"/sys/devices/virtual/net/{,**} r,",
			"/etc/network/{,interfaces,interfaces.d/{,*}} r,",
			"/run/netns/ r,",
			"/run/systemd/netif/{,**} r,",
		),
		capabilities: []string{"CAP_NET_RAW"},
	})
}
