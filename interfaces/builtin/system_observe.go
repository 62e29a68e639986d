// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func systemObserve() interfaces.Interface {
	return host("system-observe", "reads what runs and how the system is", interfaces.Manual, gift{
		// No CAP_SYS_PTRACE: it is for writing into others' memory, too.
		rules: []string{
			"ptrace (read),",
			"/proc/{diskstats,interrupts,modules,partitions,pressure/*,schedstat,slabinfo,softirqs,vmallocinfo,zoneinfo} r,",
			"/proc/[0-9]*/{,task/,task/[0-9]*/} r,",
			"/proc/[0-9]*/{,task/[0-9]*/}{cgroup,cmdline,comm,exe,io,limits,oom_score,oom_score_adj,sched,schedstat,smaps_rollup,stat,statm,status,wchan} r,",
			"/proc/sys/{,fs/**,kernel/**,vm/**} r,",
			"/proc/tty/drivers r,",
			"/sys/fs/cgroup/{,**} r,",
			"/sys/kernel/mm/{,**} r,",
			"/run/systemd/{sessions,users,seats}/{,*} r,",
			"/run/utmp rk,",
			"/run/dbus/system_bus_socket rw,",
			"dbus (send) bus=system path=/org/freedesktop/hostname1 interface=org.freedesktop.DBus.Properties member={Get,GetAll} peer=(label=unconfined),",
		},
	})
}
