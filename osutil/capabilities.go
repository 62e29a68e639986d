// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// capabilityNames are in the order of their numbers, from linux/capability.h.
func capabilityNames() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
		"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
		"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
		"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
		"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	}
}

// BoundCapabilities keeps the program that the calling thread executes next,
// and all that come of it, from having other capabilities than these, such as
// "CAP_CHOWN". The goroutine must be locked to its thread, which has to have
// CAP_SETPCAP.
func BoundCapabilities(names []string) error {
	known := capabilityNames()
	for _, n := range names {
		if !slices.Contains(known, n) {
			return fmt.Errorf("cannot bound capabilities: %q is not known", n)
		}
	}
	// what is inheritable would be kept over the bound
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	if err == nil {
		data[0].Inheritable, data[1].Inheritable = 0, 0
		err = unix.Capset(&header, &data[0])
	}
	if err == nil {
		err = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	}
	// those that the kernel has, and this list does not, are dropped, too
	for c := 0; err == nil && c < 64; c++ {
		if c < len(known) && slices.Contains(names, known[c]) {
			continue
		}
		if err = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err == unix.EINVAL && c > 0 {
			return nil // there are no more
		}
	}
	if err != nil {
		return fmt.Errorf("cannot bound capabilities: %w", err)
	}
	return nil
}
