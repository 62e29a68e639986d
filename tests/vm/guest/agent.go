// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Agent serves requests in a booted guest; it does not return without an error.
func Agent() error {
	groups, err := ownGroup()
	if err != nil {
		return err
	}
	l, err := listen()
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
		go serve(&Conn{Conn: c}, groups)
	}
}

func listen() (net.Listener, error) {
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", Port))
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	return l, nil
}

func receiveCall(c *Conn) (*Call, error) {
	kind, payload, err := c.Receive()
	if err != nil {
		return nil, err
	}
	call := new(Call)
	if kind != Request {
		return nil, fmt.Errorf("cannot begin with a frame %q", kind)
	}
	return call, json.Unmarshal(payload, call)
}

func serve(c *Conn, groups string) {
	defer c.Close()
	call, err := receiveCall(c)
	if err != nil {
		return
	}
	var a Answer
	switch call.Verb {
	case Hello:
		a.Who = "agent"
		err = call.wake()
	case Exec:
		a.Code, err = execute(c, call, groups)
	case Kill:
		err = killGroup(filepath.Join(groups, "group-"+call.Group))
	default:
		err = fmt.Errorf("cannot understand %q", call.Verb)
	}
	if err != nil {
		a.Error = err.Error()
	}
	c.SendJSON(Reply, a)
}

// wake gives the guest what a saved state lacks: the time, and randomness of its own.
func (call *Call) wake() error {
	ts := unix.NsecToTimespec(call.Time)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("cannot set the clock: %w", err)
	}
	f, err := os.OpenFile("/dev/urandom", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(call.Seed); err != nil {
		return fmt.Errorf("cannot add randomness: %w", err)
	}
	const reseed = 0x5207 // RNDRESEEDCRNG
	if err := unix.IoctlSetInt(int(f.Fd()), reseed, 0); err != nil {
		return fmt.Errorf("cannot use the new randomness: %w", err)
	}
	return nil
}

// ownGroup moves this process to a cgroup below the service's own, which systemd leaves to it, and returns the
// service's: groups of commands are made beside.
func ownGroup() (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	_, path, ok := strings.Cut(strings.TrimSpace(string(data)), "::")
	if !ok {
		return "", fmt.Errorf("cannot find the own cgroup in %q", data)
	}
	dir := filepath.Join("/sys/fs/cgroup", path)
	if filepath.Base(dir) == "agent" {
		return filepath.Dir(dir), nil
	}
	own := filepath.Join(dir, "agent")
	if err := os.MkdirAll(own, 0755); err != nil {
		return "", fmt.Errorf("cannot make a cgroup: %w", err)
	}
	return dir, os.WriteFile(filepath.Join(own, "cgroup.procs"), []byte("0"), 0)
}

func killGroup(dir string) error {
	err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
	}
	return fmt.Errorf("cannot kill the group %s: %w", filepath.Base(dir), err)
}
