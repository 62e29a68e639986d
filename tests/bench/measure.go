// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// series are measurements of one thing, in the order they were taken.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return 0
	}
	t := slices.Sorted(slices.Values(s))
	if n := len(t); n%2 == 0 {
		return (t[n/2-1] + t[n/2]) / 2
	}
	return t[len(t)/2]
}

func (s series) max() float64 {
	if len(s) == 0 {
		return 0
	}
	return slices.Max(s)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// monotonic is the clock of the fixture's log.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// cpuTime is what all threads of a process have used, those that ended too.
func cpuTime(pid int) (time.Duration, error) {
	// <linux/posix-timers.h>: a clock that counts a process's running time
	const schedClock = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &t); err != nil {
		return 0, fmt.Errorf("cannot read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// field reads a number that follows "KEY:" in a file of /proc; -1 if there is none.
func field(path, key string) int64 {
	raw, err := os.ReadFile(path)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) >= 2 && words[0] == key+":" {
			if n, err := strconv.ParseInt(words[1], 10, 64); err == nil {
				return n
			}
		}
	}
	return -1
}

// memory is what a process holds, in KiB.
type memory struct{ peak, rss, pss, anonymous int64 }

func memoryOf(pid int) memory {
	proc := fmt.Sprintf("/proc/%d/", pid)
	return memory{
		peak:      field(proc+"status", "VmHWM"),
		rss:       field(proc+"smaps_rollup", "Rss"),
		pss:       field(proc+"smaps_rollup", "Pss"),
		anonymous: field(proc+"smaps_rollup", "Anonymous"),
	}
}

// mainPID asks systemd for the main process of a service.
func mainPID(unit string) (int, error) {
	out, err := exec.Command("systemctl", "show", "--property=MainPID", "--value", unit).Output()
	if err != nil {
		return 0, fmt.Errorf("cannot find the process of %s: %w", unit, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || pid == 0 {
		return 0, fmt.Errorf("cannot find the process of %s: it does not run", unit)
	}
	return pid, nil
}

// busPID finds the process of the message bus, 0 if there is none.
func busPID() int {
	for _, unit := range []string{"dbus.service", "dbus-broker.service"} {
		if pid, err := mainPID(unit); err == nil {
			return pid
		}
	}
	return 0
}

// away is the time between two main processes of the fixture.
type away struct{ from, to time.Duration } // CLOCK_MONOTONIC

// absences reads the fixture's log: from each last line of a main process to
// the first of the next.
func absences(log string) ([]away, error) {
	raw, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	var out []away
	var last time.Duration
	pid := ""
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) < 4 {
			continue
		}
		ns, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("cannot read a line of %s: %w", log, err)
		}
		at := time.Duration(ns)
		if words[3] == "start" && pid != "" && words[1] != pid {
			out = append(out, away{last, at})
		}
		last, pid = at, words[1]
	}
	return out, nil
}

// awaitAbsence waits until the log has n of them. The next main process writes
// its first line soon after systemd calls it started.
func awaitAbsence(log string, n int) ([]away, error) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		all, err := absences(log)
		if err != nil {
			return nil, err
		}
		if len(all) >= n {
			return all, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("cannot measure a gap: %s names %d restarts, not %d", log, len(all), n)
		}
	}
}

// fill writes random data in files of equal size.
func fill(dir string, files int, size int64) error {
	random, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("file-%02d", i)))
		if err != nil {
			return err
		}
		for left := size / int64(files); left > 0; left -= int64(len(block)) {
			copy(block, random)
			if _, err := f.Write(block[:min(left, int64(len(block)))]); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	unix.Sync()
	return nil
}
