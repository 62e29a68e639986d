// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// madeMarker tells a first boot from a later one, which keeps enablement and identity as a reboot does.
const madeMarker = "/etc/endured-device"

// maskedUnits look after hardware, logins or settings that are the host's.
var maskedUnits = []string{
	"systemd-firstboot.service", "systemd-sysusers.service", "systemd-sysctl.service",
	"systemd-modules-load.service", "systemd-machine-id-commit.service", "systemd-network-generator.service",
	"systemd-networkd.service", "systemd-networkd.socket", "systemd-remount-fs.service",
	"systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-hwdb-update.service",
	"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udev-settle.service",
	"systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-logind.service", "systemd-user-sessions.service", "getty@.service", "serial-getty@.service",
	"console-getty.service", "getty.target", "systemd-ask-password-wall.service", "systemd-ask-password-wall.path",
	"systemd-ask-password-console.service", "systemd-ask-password-console.path",
	"systemd-timesyncd.service", "systemd-resolved.service", "systemd-pstore.service",
	"systemd-random-seed.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
	"modprobe@.service", "kmod-static-nodes.service", "systemd-tmpfiles-clean.timer",
}

// hiddenDirs hold the host's own enablement, logs and state, none of it the device's.
var hiddenDirs = []string{
	"/etc/systemd/system", "/usr/lib/systemd/system-generators", "/lib/systemd/system-generators",
	"/etc/systemd/system-generators", "/var/log/journal", "/var/lib/systemd", "/snap",
}

// settings makes the copy of the host's root a machine of its own; called with the new root in place.
func (c *insideConfig) settings() error {
	if err := unix.Sethostname([]byte(c.Name)); err != nil {
		return fmt.Errorf("cannot set the host name: %w", err)
	}
	_, err := os.Stat(madeMarker)
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, dir := range append([]string{c.Hidden}, hiddenDirs...) {
		if err := hide(dir); err != nil {
			return err
		}
	}
	id := make([]byte, 16)
	rand.Read(id)
	for path, content := range map[string]string{
		"/etc/machine-id": hex.EncodeToString(id) + "\n",
		"/etc/hostname":   c.Name + "\n",
		"/etc/fstab":      "",
		"/etc/systemd/journald.conf.d/device.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=128M\n" +
			"RateLimitIntervalSec=0\nForwardToSyslog=no\nForwardToWall=no\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0644); err != nil {
			return fmt.Errorf("cannot write the device's settings: %w", err)
		}
	}
	for _, unit := range maskedUnits {
		if err := os.Symlink("/dev/null", "/etc/systemd/system/"+unit); err != nil {
			return fmt.Errorf("cannot mask a unit: %w", err)
		}
	}
	return os.WriteFile(madeMarker, nil, 0644)
}

// hide empties a directory, which the overlay then shows opaque.
func hide(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, os.ErrNotExist) {
		return os.MkdirAll(dir, 0755)
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(real, e.Name())
		// A mount point of ours (/srv/host's source lies under the devices' directory) is not visible through the overlay.
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot hide the host's %s: %w", path, err)
		}
	}
	return nil
}
