// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// InitPath is where the kernel finds the program in the initial ramdisk: run under this name it is Init.
const InitPath = "/init"

// Modules is the directory in the ramdisk of what Init loads, ModulesEarly and ModulesLate the lists, in order.
const (
	Modules      = "/modules"
	ModulesEarly = "early"
	ModulesLate  = "late"
)

// The network that QEMU's user mode makes; nothing of it needs a route.
const address = "10.0.2.15"

// Init is process 1 of a guest until the root is mounted. It waits for the host's word before it touches the disk: a
// state that is saved while it waits can go on with any disk, and saves the time that the kernel takes to boot.
func Init() {
	if err := initialise(); err != nil {
		fmt.Printf("init: %v\n", err)
	}
	// The kernel panics, and QEMU ends.
	os.Exit(1)
}

func initialise() error {
	for target, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs"} {
		os.MkdirAll(target, 0755)
		if err := unix.Mount(kind, target, kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("cannot mount %s: %w", target, err)
		}
	}
	if err := load(ModulesEarly); err != nil {
		return err
	}
	for _, i := range []struct{ name, address, mask string }{{"lo", "127.0.0.1", "255.0.0.0"}, {"eth0", address, "255.255.255.0"}} {
		if err := up(i.name, i.address, i.mask); err != nil {
			return err
		}
	}
	if err := awaitBoot(); err != nil {
		return err
	}
	if err := load(ModulesLate); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/dev/vda"); err == nil {
			break
		} else if time.Now().After(end) {
			return errors.New("cannot find the disk /dev/vda")
		}
	}
	const root = "/new"
	os.Mkdir(root, 0755)
	if err := unix.Mount("/dev/vda", root, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("cannot mount the root: %w", err)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(dir, root+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("cannot move %s: %w", dir, err)
		}
	}
	os.RemoveAll(Modules)
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("cannot move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Exec("/lib/systemd/systemd", []string{"/lib/systemd/systemd"}, []string{"PATH=" + path, "TERM=linux"})
}

// awaitBoot serves the host until it says Boot.
func awaitBoot() error {
	l, err := listen()
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		conn := &Conn{Conn: c}
		call, err := receiveCall(conn)
		if err != nil {
			c.Close()
			continue
		}
		a := Answer{Who: "init"}
		switch call.Verb {
		case Hello, Boot:
			if err := call.wake(); err != nil {
				a.Error = err.Error()
			}
		default:
			a.Error = fmt.Sprintf("cannot do %q before the root is mounted", call.Verb)
		}
		conn.SendJSON(Reply, a)
		c.Close()
		if call.Verb == Boot && a.Error == "" {
			return nil
		}
	}
}

// load loads the modules of a list.
func load(list string) error {
	names, err := os.ReadFile(Modules + "/" + list)
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(names)) {
		f, err := os.Open(Modules + "/" + name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("cannot load the module %s: %w", name, err)
		}
	}
	return nil
}

// up gives a network interface its address.
func up(name, address, mask string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, step := range []struct {
		request uint
		value   string
	}{{unix.SIOCSIFADDR, address}, {unix.SIOCSIFNETMASK, mask}} {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		var ip [4]byte
		fmt.Sscanf(step.value, "%d.%d.%d.%d", &ip[0], &ip[1], &ip[2], &ip[3])
		if err := ifr.SetInet4Addr(ip[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, step.request, ifr); err != nil {
			return fmt.Errorf("cannot give %s the address %s: %w", name, step.value, err)
		}
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("cannot set %s up: %w", name, err)
	}
	return nil
}
