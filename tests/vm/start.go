// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"endured/tests/lib/machines"
	"endured/tests/vm/guest"
)

type startOptions struct {
	cold     bool
	overlays machines.Strings
	project  string
	owner    int
	nice     int
	timeout  time.Duration
}

func (h *host) cmdStart(ctx context.Context, args []string) error {
	var o startOptions
	f := flag.NewFlagSet("start", flag.ContinueOnError)
	f.BoolVar(&o.cold, "cold", false, "boot instead of going on from the saved state")
	f.Var(&o.overlays, "overlay", "directory whose tree is copied over the root")
	f.StringVar(&o.project, "project", "", "directory shown at /srv/endured (default: the one around that has go.mod)")
	f.IntVar(&o.owner, "owner", 0, "process whose death makes this VM a leftover")
	f.IntVar(&o.nice, "nice", 0, "niceness of qemu")
	f.DurationVar(&o.timeout, "timeout", bootTimeout, "how long the start may take")
	name, rest, err := machines.ParseNamed("VM", f, args)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("cannot understand %q after the name", rest)
	}
	if o.nice == 0 {
		o.nice, _ = strconv.Atoi(os.Getenv("VM_NICE"))
	}
	if o.owner == 0 {
		o.owner, _ = strconv.Atoi(os.Getenv("DEVICE_OWNER"))
	}
	if o.project == "" {
		o.project = machines.ProjectAround()
	}
	o.overlays = append(filepath.SplitList(os.Getenv("DEVICE_OVERLAYS")), o.overlays...)
	// Before the lock and the time limit: the first time it takes a minute.
	i, err := h.imageFor(ctx, name)
	if err != nil {
		return err
	}
	unlock, err := h.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return h.start(ctx, i, name, o)
}

// imageFor returns the image that a VM was made from, or the present one for a new VM.
func (h *host) imageFor(ctx context.Context, name string) (*image, error) {
	r, err := h.load(name)
	if errors.Is(err, os.ErrNotExist) {
		return h.ensureImage(ctx, false)
	}
	if err != nil {
		return nil, err
	}
	return openImage(r.Image, timestampRate())
}

// start makes a VM and starts it, or boots one that is down from its disk; the caller holds its lock.
func (h *host) start(ctx context.Context, i *image, name string, o startOptions) error {
	r, err := h.load(name)
	fresh := errors.Is(err, os.ErrNotExist)
	switch {
	case fresh:
		r, err = h.create(ctx, i, name, o)
	case err == nil && r.Running():
		return fmt.Errorf("cannot start VM %q: it is running", name)
	}
	if err == nil {
		limited, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("it takes longer than %v", o.timeout))
		err = h.bring(limited, r, i, fresh, o)
		cancel()
		if err != nil {
			err = fmt.Errorf("cannot start VM %q: %w%s", name, err, h.lastWords(name))
		}
	}
	if err == nil {
		return nil
	}
	stop := context.WithoutCancel(ctx)
	if fresh {
		return errors.Join(err, h.forget(stop, r))
	}
	return errors.Join(err, h.kill(stop, r))
}

// bring gets the guest up, and the product into a new one.
func (h *host) bring(ctx context.Context, r *record, i *image, fresh bool, o startOptions) error {
	s := shape{
		disk: h.disk(r.Name), format: "qcow2", cache: "writeback", product: filepath.Join(h.disks, r.Name, "product"),
		state: r.Image + "/kernel.state", nice: o.nice,
	}
	resumed := fresh && !o.cold
	if resumed {
		s.state = r.Image + "/booted.state"
	}
	if err := h.spawn(ctx, r, s, i.KHz); err != nil {
		return err
	}
	watched, done := h.watch(ctx, r)
	defer done()
	var err error
	if resumed {
		limited, cancel := context.WithTimeoutCause(watched, resumeTimeout, fmt.Errorf("the guest says nothing for %v", resumeTimeout))
		defer cancel()
		err = awaitGuest(limited, r.address(), guest.Hello, "agent")
	} else {
		err = h.awaitBoot(watched, r)
	}
	if err == nil {
		err = h.showProduct(watched, r, fresh)
	}
	if err != nil {
		return r.reason(err)
	}
	return nil
}

// create makes a VM's directories, disk and record.
func (h *host) create(ctx context.Context, i *image, name string, o startOptions) (*record, error) {
	r := &record{Record: machines.Record{Name: name, Created: time.Now()}, Image: i.dir}
	r.SetOwner(o.owner)
	disk := h.disk(name)
	// No record knows of it, so it is what a killed program left.
	if err := errors.Join(os.RemoveAll(filepath.Dir(disk)), os.RemoveAll(h.Of(name))); err != nil {
		return r, fmt.Errorf("cannot remove a leftover: %w", err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(disk), 0700), os.MkdirAll(h.Of(name), 0700)); err != nil {
		return r, fmt.Errorf("cannot make a directory of the VM: %w", err)
	}
	if err := h.save(r); err != nil {
		return r, err
	}
	base := i.dir + "/root.ext4"
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, disk).CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("cannot make the disk: %w: %s", err, bytes.TrimSpace(out))
	}
	return r, packProduct(ctx, filepath.Join(filepath.Dir(disk), "product"), o)
}

// kill ends QEMU at once, as a power cut does.
func (h *host) kill(ctx context.Context, r *record) error {
	if r.Running() {
		if err := unix.Kill(r.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot kill VM %q: %w", r.Name, err)
		}
		if err := machines.AwaitExit(ctx, r.PID); err != nil {
			return fmt.Errorf("cannot kill VM %q: %w", r.Name, err)
		}
	}
	if r.PID == 0 {
		return nil
	}
	r.SetPID(0)
	r.Port = 0
	return h.save(r)
}

// forget kills a VM and removes everything of it, the lock last.
func (h *host) forget(ctx context.Context, r *record) error {
	for _, pid := range h.processes(r.Name) {
		unix.Kill(pid, unix.SIGKILL)
		if err := machines.AwaitExit(ctx, pid); err != nil {
			return fmt.Errorf("cannot kill VM %q: %w", r.Name, err)
		}
	}
	err := errors.Join(os.RemoveAll(filepath.Dir(h.disk(r.Name))), os.RemoveAll(h.Of(r.Name)))
	if err != nil {
		return fmt.Errorf("cannot remove VM %q: %w", r.Name, err)
	}
	os.Remove(h.disks)
	os.Remove(h.Of(r.Name + ".lock"))
	// The parent goes with its last VM; until then this fails, as it should.
	os.Remove(h.Path)
	return nil
}

// processes finds the QEMU of a VM, also one that a killed start had no time to record.
func (h *host) processes(name string) []int {
	var pids []int
	socket := []byte("unix:" + h.Of(name, "qmp") + ",")
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, socket) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}
