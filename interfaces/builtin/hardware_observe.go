// SPDX-License-Identifier: Apache-2.0

package builtin

import "endured/interfaces"

func hardwareObserve() interfaces.Interface {
	return host("hardware-observe", "reads what hardware there is", interfaces.Manual, gift{
		rules: []string{
			"network netlink raw,",
			"/sys/ r,",
			"/sys/{block,bus,class,dev,devices,firmware,hypervisor}/{,**} r,",
			"/run/udev/data/{,*} r,",
			"/proc/{bus/{,**},devices,dma,iomem,ioports,interrupts,mtrr,partitions,scsi/{,**}} r,",
			"/proc/asound/{,**} r,",
			"/dev/bus/usb/{,*/{,*}} r,",
			"/etc/{modprobe.d,udev/udev.conf}{,/**} r,",
			"/var/lib/usbutils/usb.ids r,",
		},
	})
}
