// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func networkControl() interfaces.Interface {
	return host("network-control", "changes interfaces, routes and network namespaces", interfaces.Manual, gift{
		rules: append(resolving(),
			"network,",
			"/proc/[0-9]*/net/{,**} r,",
			"/proc/sys/net/{,**} rw,",
			"/sys/class/net/{,**} rw,",
			"/sys/devices/**/net/{,**} rw,",
			"/sys/devices/virtual/net/{,**} rw,",
			"/dev/net/tun rw,",
			"/dev/rfkill rw,",
			"/etc/network/{,**} r,",
			"/etc/{iproute2,udev/rules.d,dhcp}/{,**} r,",
			"/run/netns/{,*} rk,",
			"/run/resolvconf/{,**} rk,",
			"/run/systemd/netif/{,**} r,",
			"/run/xtables.lock rwk,",
			"/var/lib/dhcp/{,**} rw,",
		),
		// Making a namespace takes CAP_SYS_ADMIN and is not given: it would undo the seal.
		capabilities: []string{"CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW"},
	})
}
