// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
)

// The image is made anew when any of this changes, or the version of a package that matters.

const release = "bookworm"

// kernelPackage depends on the package of the newest kernel.
const kernelPackage = "linux-image-cloud-amd64"

// keyPackages are those whose versions, as apt knows them, belong to the key of the root tree.
var keyPackages = []string{kernelPackage, "systemd", "apparmor", "squashfs-tools", "dbus"}

// packages is all that the guest has; everything else comes with the product and the suites.
var packages = []string{
	"acl", "apparmor", "apt", "attr", "base-files", "base-passwd", "bash", "coreutils", "dash", "dbus",
	"debianutils", "diffutils", "dpkg", "e2fsprogs", "findutils", "gawk", "grep", "gzip", "hostname",
	"init-system-helpers", "iproute2", "kmod", "libc-bin", "login", "mount", "passwd", "procps", "sed",
	"squashfs-tools", "strace", "systemd", "systemd-sysv", "tar", "util-linux", "util-linux-extra",
}

// modules are what init loads before it waits for the host, and after.
var (
	earlyModules = []string{
		"virtio_mmio", "virtio_net", "virtio_console", "virtio_rng", "crc32c_intel", "loop", "squashfs", "overlay",
	}
	lateModules = []string{"virtio_blk", "ext4"}
)

// maskedUnits cost time and serve nobody here. apparmor.service would load the profiles of packages, 6 s without KVM;
// the security module itself is on.
var maskedUnits = []string{
	"apparmor.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dev-hugepages.mount", "dev-mqueue.mount", "dpkg-db-backup.timer",
	"e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty@.service", "kmod-static-nodes.service",
	"modprobe@.service", "proc-sys-fs-binfmt_misc.automount", "serial-getty@.service", "sys-kernel-debug.mount",
	"sys-kernel-tracing.mount", "systemd-ask-password-console.path", "systemd-ask-password-wall.path",
	"systemd-binfmt.service", "systemd-firstboot.service", "systemd-hwdb-update.service", "systemd-initctl.socket",
	"systemd-journal-catalog-update.service", "systemd-journal-flush.service", "systemd-logind.service", "systemd-machine-id-commit.service",
	"systemd-modules-load.service", "systemd-networkd.service", "systemd-pcrmachine.service",
	"systemd-pcrphase-sysinit.service", "systemd-pcrphase.service", "systemd-random-seed.service",
	"systemd-remount-fs.service", "systemd-rfkill.socket", "systemd-sysctl.service", "systemd-sysusers.service",
	"systemd-timesyncd.service", "systemd-tmpfiles-clean.timer", "systemd-tmpfiles-setup-dev.service", "systemd-udev-settle.service",
	"systemd-udev-trigger.service", "systemd-update-utmp-runlevel.service", "systemd-update-utmp.service",
	"systemd-user-sessions.service",
}

// guestFiles are written over the root tree.
var guestFiles = map[string]string{
	"/etc/hostname":    "vm\n",
	"/etc/hosts":       "127.0.0.1 localhost vm\n",
	"/etc/fstab":       "",
	"/etc/resolv.conf": "nameserver 10.0.2.3\n",
	// The journal goes out by the second console as well: it is there even when the guest no longer answers.
	"/etc/systemd/journald.conf.d/vm.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nAudit=no\nRateLimitIntervalSec=0\n" +
		"ForwardToConsole=yes\nTTYPath=/dev/hvc0\nMaxLevelConsole=debug\n",
	// Without KVM everything takes 15 to 70 times as long.
	"/etc/systemd/system.conf.d/vm.conf": "[Manager]\nDefaultTimeoutStartSec=300s\n",
	"/etc/systemd/system/vm-agent.service": `[Unit]
Description=Runs commands for the host
DefaultDependencies=no
[Service]
ExecStart=/usr/local/lib/vm-agent
KillMode=process
Delegate=yes
IgnoreSIGPIPE=no
Restart=always
[Install]
WantedBy=sysinit.target
`,
}

const (
	diskSize = 3 << 30
	memory   = "1G"
	cpus     = "2"
	// Emulated, "rep movsb" is a loop for each byte, SMAP ends a block of translated code at each access to a user's
	// memory, and a fifth level of page tables is walked as well.
	processor = "max,-erms,-smap,-la57"
	agentPath = "/usr/local/lib/vm-agent"
)

// commandLine is the kernel's. A microvm has neither HPET nor PM timer to measure the time stamp counter with, and
// about half of its boots hang where they try: khz says what it is. With norandmaps a library is where it was in the
// process before, so that its code is translated once, not again for each process: these take a third of the time.
func commandLine(khz int) string {
	return fmt.Sprintf("console=ttyS0 quiet tsc_early_khz=%d lpj=4000000 mitigations=off tsc=reliable no_timer_check nowatchdog "+
		"noreplace-smp norandmaps init_on_alloc=0 systemd.unified_cgroup_hierarchy=1 systemd.show_status=0 rcupdate.rcu_expedited=1 random.trust_cpu=on panic=-1", khz)
}

// sources is the text that goes into the image or decides on it.
//
//go:embed guest/*.go recipe.go image.go cpio.go
var sources embed.FS

// key hashes what a tree of packages depends on (tree), and with the rest of the sources what the image does (image).
func keys() (tree, image string, err error) {
	h := sha256.New()
	out, err := exec.Command("apt-cache", append([]string{"policy"}, keyPackages...)...).Output()
	if err != nil {
		return "", "", fmt.Errorf("cannot ask apt for versions: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "Candidate:") {
			io.WriteString(h, line)
		}
	}
	fmt.Fprint(h, release, packages, kernelPackage)
	tree = hex.EncodeToString(h.Sum(nil))[:12]
	if out, err = exec.Command(qemu, "--version").Output(); err != nil {
		return "", "", fmt.Errorf("cannot ask %s for its version (make deps installs it): %w", qemu, err)
	}
	h.Write(out)
	err = fs.WalkDir(sources, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := sources.ReadFile(path)
		h.Write(data)
		return err
	})
	return tree, hex.EncodeToString(h.Sum(nil))[:12], err
}
