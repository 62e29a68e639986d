// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func processControl() interfaces.Interface {
	return host("process-control", "signals other processes and changes their priority", interfaces.Manual, gift{
		rules: []string{
			"signal (send),",
			"/proc/[0-9]*/{oom_score_adj,autogroup,sched,timerslack_ns} rw,",
			"/proc/[0-9]*/{,task/,task/[0-9]*/} r,",
			"/proc/[0-9]*/{,task/[0-9]*/}{cmdline,comm,stat,statm,status} r,",
		},
		capabilities: []string{"CAP_KILL", "CAP_SYS_NICE", "CAP_SYS_RESOURCE"},
	})
}
