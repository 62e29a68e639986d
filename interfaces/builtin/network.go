// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

// resolving is what it takes to look up names.
func resolving() []string {
	return []string{
		"/run/systemd/resolve/{,io.systemd.Resolve,resolv.conf,stub-resolv.conf} rw,",
		"/run/{NetworkManager,resolvconf,connman,netconfig}/resolv.conf r,",
		"/run/avahi-daemon/socket rw,",
		"/run/nscd/socket rw,",
		"/etc/{ethers,networks} r,",
		"network netlink raw,",
	}
}

func network() interfaces.Interface {
	return host("network", "opens connections over the network", interfaces.AutoSystem, gift{
		rules: append(resolving(),
			"network inet stream,",
			"network inet dgram,",
			"network inet6 stream,",
			"network inet6 dgram,",
		),
	})
}
