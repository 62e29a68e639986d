// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func removableMedia() interfaces.Interface {
	return host("removable-media", "allows access to mounted removable storage", interfaces.Manual, gift{
		rules: []string{
			"/{,run/}media/{,**} rwklm,",
			"/mnt/{,**} rwklm,",
		},
	})
}
