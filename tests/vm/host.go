// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"endured/tests/lib/machines"
)

const qemu = "qemu-system-x86_64"

// host is where VMs live on this machine.
type host struct {
	machines.Dir        // records, sockets, consoles
	disks        string // on a tmpfs: what VMs write
	cache        string // images
}

// record is what is known of a VM, kept as JSON in its directory.
type record struct {
	machines.Record        // PID is that of qemu
	Image           string `json:"image"`          // directory of the image it was made from
	Port            int    `json:"port,omitempty"` // of this host, the guest's agent behind it
}

func openHost() (*host, error) {
	dir := os.Getenv("VM_DIR")
	if dir == "" {
		dir = "/run/endured-vms"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use $VM_DIR: %w", err)
	}
	h := &host{Dir: machines.Dir{Path: dir, Kind: "VM"}, disks: "/dev/shm/endured-vms", cache: "/var/cache/endured-vm"}
	if dir != "/run/endured-vms" {
		h.disks += strings.ReplaceAll(dir, "/", "-")
	}
	return h, nil
}

func (h *host) load(name string) (*record, error) {
	r := new(record)
	return r, h.Load(name, r)
}

func (h *host) save(r *record) error { return h.Save(r.Name, r) }

func (h *host) disk(name string) string { return filepath.Join(h.disks, name, "disk.qcow2") }

// runningRecord returns the record of a VM that runs.
func (h *host) runningRecord(name, verb string) (*record, error) {
	r, err := h.load(name)
	if err != nil {
		return nil, err
	}
	if !r.Running() {
		return nil, fmt.Errorf("cannot %s VM %q: it is not running%s", verb, name, h.lastWords(name))
	}
	return r, nil
}

// lastWords is what qemu and the guest's console said, for an error.
func (h *host) lastWords(name string) string {
	var b strings.Builder
	for _, file := range []string{"qemu.log", "console"} {
		if data, err := os.ReadFile(h.Of(name, file)); err == nil && len(strings.TrimSpace(string(data))) != 0 {
			fmt.Fprintf(&b, "\n--- %s (%s)\n%s", file, h.Of(name, file), lastLines(data, 15))
		}
	}
	return b.String()
}

// watch returns a context that ends when qemu does.
func (h *host) watch(ctx context.Context, r *record) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		if machines.AwaitExit(ctx, r.PID) == nil {
			cancel(errors.New(errEnded))
		}
	}()
	return ctx, func() { cancel(nil) }
}

// reason says that QEMU has ended if that is why err came: a connection breaks a moment before the process is gone.
func (r *record) reason(err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err.Error() != errEnded && machines.AwaitExit(ctx, r.PID) == nil {
		return fmt.Errorf("%s: %w", errEnded, err)
	}
	return err
}

const errEnded = "qemu has ended"

func (r *record) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Port)) }
