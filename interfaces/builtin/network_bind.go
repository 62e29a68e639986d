// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func networkBind() interfaces.Interface {
	return host("network-bind", "listens for connections from the network", interfaces.AutoSystem, gift{
		rules: append(resolving(),
			"network inet stream,",
			"network inet dgram,",
			"network inet6 stream,",
			"network inet6 dgram,",
			"/proc/sys/net/core/somaxconn r,",
			"/proc/sys/net/ipv4/{ip_local_port_range,ip_unprivileged_port_start,tcp_fastopen} r,",
			"/proc/sys/net/ipv6/{bindv6only,conf/all/disable_ipv6} r,",
			"owner /proc/[0-9]*/net/{if_inet6,ipv6_route,route,tcp,tcp6,udp,udp6} r,",
		),
		capabilities: []string{"CAP_NET_BIND_SERVICE"},
	})
}
