// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// initArg0 is the argv[0] under which this program furnishes a device before systemd takes its place.
	initArg0   = "device-init"
	insidePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	loopNodes  = 2048
)

type insideConfig struct {
	Name     string
	Upper    string   // becomes the overlay's upper and work directories
	Image    string   // of the disk
	FS       string   // on it
	Host     string   // shown at /srv/host, writable
	Notify   string   // directory of the notify socket
	Project  string   // shown at /srv/endured; writes go to the upper
	Overlays []string // trees to copy over the root
	Hidden   string   // the directory of all devices
}

// insideMain is PID 1 of the new namespaces until it executes systemd. Trouble is told on descriptor 3, which exec closes.
func insideMain() {
	unix.CloseOnExec(3)
	report := os.NewFile(3, "report")
	err := func() error {
		var c insideConfig
		if err := json.Unmarshal([]byte(os.Args[1]), &c); err != nil {
			return err
		}
		if err := c.furnish(); err != nil {
			return err
		}
		return execSystemd()
	}()
	fmt.Fprintf(report, "cannot furnish the device: %v", err)
	os.Exit(1)
}

func execSystemd() error {
	if err := dropHostPowers(); err != nil {
		return err
	}
	var path string
	for _, p := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		if unix.Access(p, unix.X_OK) == nil {
			path = p
			break
		}
	}
	if path == "" {
		return errors.New("cannot find systemd: install the package systemd")
	}
	env := []string{"container=endured-device", "PATH=" + insidePath, "NOTIFY_SOCKET=/run/host/notify/socket"}
	args := []string{path, "--system", "--unit=multi-user.target", "--show-status=no", "--log-target=journal"}
	return fmt.Errorf("cannot execute %s: %w", path, unix.Exec(path, args, env))
}

// dropHostPowers takes from this thread, for what it executes next, the power over the host's clock and kernel modules.
func dropHostPowers() error {
	for _, c := range []uintptr{unix.CAP_SYS_TIME, unix.CAP_SYS_MODULE, unix.CAP_WAKE_ALARM} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("cannot drop capability %d: %w", c, err)
		}
	}
	return nil
}

func (c *insideConfig) furnish() error {
	// The cgroup is entered at clone, so its namespace is rooted there only if made now.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cannot make a cgroup namespace: %w", err)
	}
	unix.Umask(0022)
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := c.mountRoot(); err != nil {
		return err
	}
	for _, step := range []func() error{mountAPI, makeDev, c.settings} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, tree := range c.Overlays {
		if err := copyTree(tree, "/.overlays"+tree); err != nil {
			return err
		}
	}
	if len(c.Overlays) != 0 {
		if err := unix.Unmount("/.overlays", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("cannot unmount the overlays: %w", err)
		}
	}
	// As on a real host: mounts and umounts reach the namespaces of services.
	return mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// mountRoot makes the overlay the root and brings in what is shared with the host.
func (c *insideConfig) mountRoot() error {
	// The upper must not lie inside the lower "/": bound here, its ancestors end at the mount.
	base := c.Upper
	for _, d := range []string{"upper", "work", "root", "project-upper", "project-work"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0755); err != nil {
			return fmt.Errorf("cannot make the upper directory: %w", err)
		}
	}
	if err := unix.Chdir(base); err != nil {
		return err
	}
	root := filepath.Join(base, "root")
	if err := mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir=upper,workdir=work"); err != nil {
		return fmt.Errorf("%w (the upper directory must lie on another file system than /)", err)
	}
	in := func(p string) string { return filepath.Join(root, p) }
	for _, d := range []string{"/srv/host", "/srv/endured", "/var/snap", "/var/lib/snapd", "/.overlays", "/.old", "/snap"} {
		if err := os.MkdirAll(in(d), 0755); err != nil {
			return fmt.Errorf("cannot make %s: %w", d, err)
		}
	}
	if err := mount("tmpfs", in("/run"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=20%"); err != nil {
		return err
	}
	if err := os.MkdirAll(in("/run/host/notify"), 0755); err != nil {
		return err
	}
	binds := [][2]string{{c.Host, "/srv/host"}, {c.Notify, "/run/host/notify"}}
	if len(c.Overlays) != 0 {
		if err := mount("tmpfs", in("/.overlays"), "tmpfs", 0, "mode=700"); err != nil {
			return err
		}
	}
	for _, tree := range c.Overlays {
		if err := os.MkdirAll(in("/.overlays"+tree), 0755); err != nil {
			return err
		}
		binds = append(binds, [2]string{tree, "/.overlays" + tree})
	}
	for _, b := range binds {
		if err := mount(b[0], in(b[1]), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if c.Project != "" {
		options := "lowerdir=" + c.Project + ",upperdir=project-upper,workdir=project-work"
		if err := mount("overlay", in("/srv/endured"), "overlay", 0, options); err != nil {
			return err
		}
	}
	if err := mountImage(c.Image, c.FS, root); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", ".old"); err != nil {
		return fmt.Errorf("cannot change the root: %w", err)
	}
	return unix.Chdir("/")
}

// mountAPI mounts the kernel's file systems; the old root still stands at /.old, as the new sysfs and proc need.
func mountAPI() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	table := []struct {
		source, target, fstype string
		flags                  uintptr
		options                string
	}{
		{"proc", "/proc", "proc", safe, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_RDONLY | safe, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", safe, ""},
		{"tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=755,size=4M"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
	for _, m := range table {
		if err := mount(m.source, m.target, m.fstype, m.flags, m.options); err != nil {
			return err
		}
	}
	// Much of this is the host kernel's own: systemd-sysctl would change the host. Not every kernel has all of it.
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"} {
		if err := mount(path, path, "", unix.MS_BIND, ""); errors.Is(err, unix.ENOENT) {
			continue
		} else if err != nil {
			return err
		}
		if err := mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|safe, ""); err != nil {
			return err
		}
	}
	if err := newBootID(); err != nil {
		return err
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot let go of the host's root: %w", err)
	}
	return os.Remove("/.old")
}

// newBootID makes each boot of a device one of its own to the journal and to all who ask the kernel.
func newBootID() error {
	id := make([]byte, 16)
	rand.Read(id)
	text := fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	const source, target = "/run/host/boot-id", "/proc/sys/kernel/random/boot_id"
	if err := os.WriteFile(source, []byte(text), 0444); err != nil {
		return err
	}
	return mount(source, target, "", unix.MS_BIND, "")
}

func makeDev() error {
	node := func(path string, mode uint32, major, minor uint32) error {
		if err := unix.Mknod(path, mode, int(unix.Mkdev(major, minor))); err != nil {
			return fmt.Errorf("cannot make %s: %w", path, err)
		}
		// The umask has had its say in mknod.
		return os.Chmod(path, os.FileMode(mode&0777))
	}
	for _, d := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/net"} {
		if err := os.Mkdir(d, 0755); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		path         string
		major, minor uint32
	}{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9},
		{"tty", 5, 0}, {"loop-control", 10, 237}, {"fuse", 10, 229}, {"net/tun", 10, 200},
	} {
		if err := node("/dev/"+c.path, unix.S_IFCHR|0666, c.major, c.minor); err != nil {
			return err
		}
	}
	// Loop devices are global to the kernel, their nodes are not: whatever number is free must have one here.
	for i := range uint32(loopNodes) {
		if err := node(fmt.Sprintf("/dev/loop%d", i), unix.S_IFBLK|0660, 7, i); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2",
	} {
		if err := os.Symlink(target, "/dev/"+link); err != nil {
			return err
		}
	}
	if err := mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"); err != nil {
		return err
	}
	return mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
}

// mount is mount(2) with an error that says what was to be mounted.
func mount(source, target, fstype string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, fstype, flags, options); err != nil {
		return fmt.Errorf("cannot mount %s at %s: %w", strings.TrimSpace(fstype+" "+source), target, err)
	}
	return nil
}
