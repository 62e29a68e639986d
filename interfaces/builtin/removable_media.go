// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func removableMedia() interfaces.Interface {
	return host("removable-media", "opens files on media mounted below /media, /run/media and /mnt", interfaces.Manual, gift{
		rules: []string{
			"/{,run/}media/{,**} rwklm,",
			"/mnt/{,**} rwklm,",
		},
	})
}
