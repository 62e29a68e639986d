// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// host is what devices need of the machine they run on.
type host struct {
	dir     string // of all devices: images, logs, records
	uppers  string // on a tmpfs: where devices write
	cgroups string // where the unified hierarchy is mounted
}

// record is what is known of a device, kept as JSON in its directory.
type record struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	PID     int       `json:"pid,omitempty"`     // of its PID 1, seen from the host; 0 while it is down
	Birth   string    `json:"birth,omitempty"`   // start time of PID in clock ticks, against reuse
	Upper   string    `json:"upper"`             // directory of its writes
	Foreign bool      `json:"foreign,omitempty"` // Upper was given by the caller and is not ours to remove
	Project string    `json:"project,omitempty"`
	// Owner is a process whose death makes the device a leftover; 0 for a device that is nobody's.
	Owner      int    `json:"owner,omitempty"`
	OwnerBirth string `json:"owner-birth,omitempty"`
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,39}$`)

func openHost() (*host, error) {
	h := &host{dir: os.Getenv("DEVICE_DIR"), uppers: "/dev/shm/endured-devices"}
	if h.dir == "" {
		h.dir = "/run/endured-devices"
	}
	abs, err := filepath.Abs(h.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use $DEVICE_DIR: %w", err)
	}
	h.dir = abs
	if h.dir != "/run/endured-devices" {
		h.uppers += strings.ReplaceAll(h.dir, "/", "-")
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

func (h *host) path(name string, more ...string) string {
	return filepath.Join(append([]string{h.dir, name}, more...)...)
}

func (h *host) cgroup(name string) string {
	return filepath.Join(h.cgroups, h.cgroupPrefix()+name)
}

// cgroupPrefix keeps devices of different $DEVICE_DIRs apart.
func (h *host) cgroupPrefix() string {
	if h.dir == "/run/endured-devices" {
		return "endured-device-"
	}
	return "endured-device" + strings.ReplaceAll(h.dir, "/", "-") + "-"
}

// lock keeps other device programs off this name until the returned function is called.
func (h *host) lock(ctx context.Context, name string) (unlock func(), err error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("cannot use %q as the name of a device", name)
	}
	if err := os.MkdirAll(h.dir, 0700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of devices: %w", err)
	}
	path := h.path(name + ".lock")
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0600)
		if err != nil {
			return nil, fmt.Errorf("cannot lock device: %w", err)
		}
		got := make(chan error, 1)
		go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
		select {
		case err = <-got:
		case <-ctx.Done():
			// Nobody waits for the lock any more; when it comes it must go.
			go func() {
				<-got
				f.Close()
			}()
			return nil, fmt.Errorf("cannot lock device %q: %w", name, ctx.Err())
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("cannot lock device %q: %w", name, err)
		}
		// A stop that held the lock removes the file: a lock on the removed inode keeps nobody out.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return func() { f.Close() }, nil
		}
		f.Close()
	}
}

func (h *host) load(name string) (*record, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("cannot use %q as the name of a device", name)
	}
	data, err := os.ReadFile(h.path(name, "record.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot find device %q: %w", name, os.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read device %q: %w", name, err)
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("cannot read device %q: %w", name, err)
	}
	return r, nil
}

func (h *host) save(r *record) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	path := h.path(r.Name, "record.json")
	if err := os.WriteFile(path+".new", append(data, '\n'), 0600); err != nil {
		return fmt.Errorf("cannot record device: %w", err)
	}
	return os.Rename(path+".new", path)
}

// names lists the devices that have a directory, running or not.
func (h *host) names() ([]string, error) {
	entries, err := os.ReadDir(h.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list devices: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && validName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (r *record) running() bool { return r.PID != 0 && birth(r.PID) == r.Birth }

// orphaned says whether the device was started on behalf of a process that is gone.
func (r *record) orphaned() bool { return r.Owner != 0 && birth(r.Owner) != r.OwnerBirth }

// birth returns the start time of a process in clock ticks since boot, "" for one that does not run.
func birth(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The name, in parentheses, may hold anything; the state is the first field after it.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}
