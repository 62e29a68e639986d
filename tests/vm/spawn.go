// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"endured/tests/lib/machines"
	"endured/tests/vm/guest"
)

// shape is how QEMU is started.
type shape struct {
	disk, format, cache string
	product             string // image behind /dev/vdb; always of productSize
	state               string // saved state to go on from, "" to boot the kernel
	nice                int
}

// productSize is what every product disk has: a saved state knows the size.
const productSize = 1 << 30

// arguments are QEMU's. What a state was saved with it must be read with.
func (h *host) arguments(r *record, s shape, khz int) []string {
	args := []string{
		"-M", "microvm,acpi=on,rtc=on", "-accel", "tcg,thread=multi,tb-size=512", "-smp", cpus, "-cpu", processor, "-m", memory,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", r.Image + "/vmlinuz", "-initrd", r.Image + "/initrd", "-append", commandLine(khz),
		"-drive", "id=root,if=none,file=" + s.disk + ",format=" + s.format + ",cache=" + s.cache + ",discard=unmap",
		"-device", "virtio-blk-device,drive=root,serial=root",
		"-drive", "id=product,if=none,file=" + s.product + ",format=raw,cache=unsafe,file.locking=off,readonly=on",
		"-device", "virtio-blk-device,drive=product,serial=product",
		"-netdev", fmt.Sprintf("user,id=net,hostfwd=tcp:127.0.0.1:0-:%d", guest.Port), "-device", "virtio-net-device,netdev=net",
		"-device", "virtio-rng-device",
		"-chardev", "file,id=journal,append=on,path=" + h.Of(r.Name, "journal"),
		"-device", "virtio-serial-device", "-device", "virtconsole,chardev=journal",
		"-chardev", "file,id=console,append=on,path=" + h.Of(r.Name, "console"), "-serial", "chardev:console",
		"-qmp", "unix:" + h.Of(r.Name, "qmp") + ",server=on,wait=off",
	}
	if s.state != "" {
		args = append(args, "-incoming", "exec:cat "+s.state)
	}
	return args
}

// spawn starts QEMU and returns once its guest runs; the caller's context bounds it. A QEMU that fails is gone when it
// returns.
func (h *host) spawn(ctx context.Context, r *record, s shape, khz int) (err error) {
	if err := os.Remove(h.Of(r.Name, "qmp")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	log, err := os.OpenFile(h.Of(r.Name, "qemu.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("nice", append([]string{"-n", strconv.Itoa(s.nice), qemu}, h.arguments(r, s, khz)...)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s (make deps installs it): %w", qemu, err)
	}
	// Reaped here, so that nobody takes the dead for living.
	go cmd.Wait()
	r.SetPID(cmd.Process.Pid)
	defer func() {
		if err != nil {
			unix.Kill(r.PID, unix.SIGKILL)
			machines.AwaitExit(context.WithoutCancel(ctx), r.PID)
		}
	}()
	if err := h.save(r); err != nil {
		return err
	}
	ctx, done := h.watch(ctx, r)
	defer done()
	m, err := openMonitor(ctx, h.Of(r.Name, "qmp"))
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.awaitRunning(ctx); err != nil {
		return err
	}
	if r.Port, err = m.port(ctx); err != nil {
		return err
	}
	return h.save(r)
}
