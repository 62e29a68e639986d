// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"endured/interfaces"
	"endured/systemd"
)

// sandboxManager is for what manages containers and virtual machines: it has a
// cgroup tree of its own and may do nearly everything, which is why it is only
// ever connected by hand. The programs of its own snap are left to the rules
// that every profile has: a process that re-executes itself after a refresh
// changes into the new profile there.
func sandboxManager() interfaces.Interface {
	const notSnaps = "{[^s],s[^n],sn[^a],sna[^p],snap[^/]}"
	i := host("sandbox-manager", "manages containers and virtual machines", interfaces.Manual, gift{
		rules: []string{
			"/{,**} rwlkm,",
			"/" + notSnaps + "{,**} ix,",
			"network,",
			"unix,",
			"signal,",
			"ptrace,",
			"mount,",
			"umount,",
			"pivot_root,",
			"dbus,",
			"change_profile -> [^su]**,",
			// what a manager must not do to snapd itself
			"deny /var/lib/snapd/{,**} wl,",
			"deny /run/snapd/{[^s],s[^n]}{,**} wl,", // all but the socket of snapctl
			"deny /{etc,run}/systemd/system/{snap,snapd}[-.]** wl,",
		},
		capabilities: []string{
			"CAP_AUDIT_WRITE", "CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_MKNOD", "CAP_NET_ADMIN",
			"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_NICE",
			"CAP_SYS_PTRACE", "CAP_SYS_RESOURCE",
		},
		seccomp:    []string{"@keyring", "@mount", "acct", "bpf", "open_by_handle_at", "quotactl", "quotactl_fd", "userfaultfd"},
		unsealable: "it is connected to sandbox-manager and may mount what it likes (CAP_SYS_ADMIN)",
	})
	give := i.ForPlug
	i.ForPlug = func(s *interfaces.Spec, c *interfaces.Connection) error {
		s.Delegate = true
		s.Unit = append(s.Unit,
			systemd.Option{Name: "LimitNOFILE", Value: "1048576"},
			systemd.Option{Name: "RestrictSUIDSGID", Value: "no"}, // images hold such files
			systemd.Option{Name: "TasksMax", Value: "infinity"})
		return give(s, c)
	}
	return i
}
