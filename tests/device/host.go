// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"endured/tests/lib/machines"
)

// host is what devices need of the machine they run on.
type host struct {
	machines.Dir        // images, logs, records
	uppers       string // on a tmpfs: where devices write
	cgroups      string // where the unified hierarchy is mounted
}

// record is what is known of a device, kept as JSON in its directory.
type record struct {
	machines.Record        // PID is that of its PID 1, seen from the host
	Upper           string `json:"upper"`             // directory of its writes
	Foreign         bool   `json:"foreign,omitempty"` // Upper was given by the caller and is not ours to remove
	Project         string `json:"project,omitempty"`
	FS              string `json:"fs"` // of its disk
}

func openHost() (*host, error) {
	dir := os.Getenv("DEVICE_DIR")
	if dir == "" {
		dir = "/run/endured-devices"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use $DEVICE_DIR: %w", err)
	}
	h := &host{Dir: machines.Dir{Path: dir, Kind: "device"}, uppers: "/dev/shm/endured-devices"}
	if dir != "/run/endured-devices" {
		h.uppers += strings.ReplaceAll(dir, "/", "-")
	}
	h.cgroups, err = unifiedMount()
	return h, err
}

// unifiedMount finds the cgroup2 hierarchy: alone at its usual place, or beside v1.
func unifiedMount() (string, error) {
	for _, path := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return path, nil
		}
	}
	return "", errors.New("cannot find a cgroup2 mount in /sys/fs/cgroup or /sys/fs/cgroup/unified")
}

func (h *host) cgroup(name string) string {
	return filepath.Join(h.cgroups, h.cgroupPrefix()+name)
}

// cgroupPrefix keeps devices of different $DEVICE_DIRs apart.
func (h *host) cgroupPrefix() string {
	if h.Path == "/run/endured-devices" {
		return "endured-device-"
	}
	return "endured-device" + strings.ReplaceAll(h.Path, "/", "-") + "-"
}

func (h *host) load(name string) (*record, error) {
	r := new(record)
	if err := h.Load(name, r); err != nil {
		return nil, err
	}
	return r, nil
}

func (h *host) save(r *record) error { return h.Save(r.Name, r) }
