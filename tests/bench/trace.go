// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// synced is one call that waits for the disk.
type synced struct {
	at   time.Duration // CLOCK_MONOTONIC
	call string
	path string
}

// strace follows a process and notes the calls that wait for the disk.
type strace struct {
	cmd  *exec.Cmd
	file string
}

// syncCalls wait for the disk. sync_file_range as it is used here only begins.
const syncCalls = "fsync,fdatasync,syncfs,sync,msync"

func startStrace(ctx context.Context, pid int, dir string) (*strace, error) {
	s := &strace{file: filepath.Join(dir, "trace")}
	s.cmd = exec.CommandContext(ctx, "strace", "-f", "-ttt", "-y", "-e", "trace="+syncCalls, "-o", s.file, "-p", strconv.Itoa(pid))
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot trace: %w", err)
	}
	for end := time.Now().Add(5 * time.Second); !traced(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.stop()
			return nil, errors.New("cannot trace: strace does not get hold of snapd")
		}
	}
	return s, nil
}

func traced(pid int) bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, t := range tasks {
		if field(t, "TracerPid") < 1 {
			return false
		}
	}
	return err == nil && len(tasks) > 0
}

func (s *strace) stop() {
	s.cmd.Process.Signal(os.Interrupt)
	s.cmd.Wait() // strace dies of the signal
}

// calls stops the trace and returns what it saw.
func (s *strace) calls() ([]synced, error) {
	var real unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &real); err != nil {
		return nil, err
	}
	offset := time.Duration(real.Nano()) - monotonic()
	s.stop()
	raw, err := os.ReadFile(s.file)
	if err != nil {
		return nil, err
	}
	line := regexp.MustCompile(`^\d+ +(\d+)\.(\d{6}) (\w+)\((?:\d+<([^>]*)>)?`)
	var out []synced
	for l := range strings.Lines(string(raw)) {
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue // "resumed", or a signal
		}
		sec, err1 := strconv.ParseInt(m[1], 10, 64)
		usec, err2 := strconv.ParseInt(m[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("cannot read the trace: %w", err)
		}
		at := time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond
		out = append(out, synced{at - offset, m[3], m[4]})
	}
	return out, nil
}

// monitor sees what goes between systemd and the others on the bus.
type monitor struct {
	bus      *dbus.Conn
	messages chan *dbus.Message
}

// startMonitor returns nil when there is no bus to listen on.
func startMonitor(ctx context.Context) *monitor {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil
	}
	m := &monitor{bus, make(chan *dbus.Message, 100_000)}
	rules := []string{"type='method_call',destination='org.freedesktop.systemd1'", "type='signal',sender='org.freedesktop.systemd1'"}
	if err := bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, rules, uint32(0)).Err; err != nil {
		bus.Close()
		return nil
	}
	bus.Eavesdrop(m.messages)
	return m
}

// counts stops listening. Keys are method names, and "signal NAME".
func (m *monitor) counts() map[string]int {
	out := map[string]int{}
	if m == nil {
		return out
	}
	time.Sleep(100 * time.Millisecond) // what is under way
	m.bus.Close()
	for {
		select {
		case msg := <-m.messages:
			if msg == nil {
				return out
			}
			name, _ := msg.Headers[dbus.FieldMember].Value().(string)
			switch msg.Type {
			case dbus.TypeMethodCall:
				out[name]++
			case dbus.TypeSignal:
				out["signal "+name]++
			}
		default:
			return out
		}
	}
}
