// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a reference to one process that cannot come to mean another when
// its number is used again (a pidfd).
type Process struct {
	pid int
	f   *os.File
}

// OpenProcess refers to the process that has the number now. The error wraps
// unix.ESRCH if none has.
func OpenProcess(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	// the number of a process that is gone is still that of its group or session,
	// as long as that has members; newer kernels say ENOENT
	if (err == unix.EINVAL || err == unix.ENOENT) && pid > 0 {
		err = unix.ESRCH
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open process %d: %w", pid, err)
	}
	return processOf(pid, fd)
}

// PeerProcess refers to the process that made a connection, of which a socket
// is the other end. The error wraps unix.ENOPROTOOPT before Linux 6.5.
func PeerProcess(socket, pid int) (*Process, error) {
	fd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return nil, fmt.Errorf("cannot open the peer, process %d: %w", pid, err)
	}
	unix.CloseOnExec(fd)
	return processOf(pid, fd)
}

func processOf(pid, fd int) (*Process, error) {
	// Non-blocking makes os.NewFile hand it to the runtime's epoll.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot open process %d: %w", pid, err)
	}
	return &Process{pid, os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(pid))}, nil
}

// PID is the number it was opened by.
func (p *Process) PID() int { return p.pid }

// Close ends the reference, not the process.
func (p *Process) Close() error { return p.f.Close() }

// Signal sends sig; the error wraps unix.ESRCH when the process is gone.
func (p *Process) Signal(sig unix.Signal) error {
	c, err := p.f.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot signal process %d: %w", p.pid, err)
	}
	cerr := c.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if err = errors.Join(cerr, err); err != nil {
		return fmt.Errorf("cannot signal process %d: %w", p.pid, err)
	}
	return nil
}

// Use calls do with the pidfd, which stays open for as long.
func (p *Process) Use(do func(fd int) error) error {
	c, err := p.f.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot use process %d: %w", p.pid, err)
	}
	var done error
	if err := c.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return fmt.Errorf("cannot use process %d: %w", p.pid, err)
	}
	return done
}

// Wait returns nil when the process has exited (reaped or not), or ctx's error.
// It sleeps in the runtime's epoll: no thread, no polling. One goroutine at a
// time may wait on a Process.
func (p *Process) Wait(ctx context.Context) error {
	c, err := p.f.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot wait for process %d: %w", p.pid, err)
	}
	// A deadline that lies in the past is how a sleeping reader is woken.
	stop := context.AfterFunc(ctx, func() { p.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var pollErr error
	err = c.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if err != nil && err != unix.EINTR {
			pollErr = err
		}
		return n > 0 || pollErr != nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return ctx.Err()
	}
	if err = errors.Join(err, pollErr); err != nil {
		return fmt.Errorf("cannot wait for process %d: %w", p.pid, err)
	}
	return nil
}

// WaitExit waits until the process has exited. guard, if not nil, tells
// whether pid still is the process that is meant (say, its unit's MainPID
// under the same InvocationID); it is asked again after the process is held,
// and WaitExit returns nil at once when it says no: the one that was meant has
// gone.
func WaitExit(ctx context.Context, pid int, guard func() bool) error {
	if guard != nil && !guard() {
		return nil
	}
	p, err := OpenProcess(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if guard != nil && !guard() {
		return nil
	}
	return p.Wait(ctx)
}

// WaitPIDs waits until every one of the processes has exited. Numbers that
// have no process are gone already.
func WaitPIDs(ctx context.Context, pids []int) error {
	var held []*Process
	defer func() {
		for _, p := range held {
			p.Close()
		}
	}()
	for _, pid := range pids {
		p, err := OpenProcess(pid)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return err
		}
		held = append(held, p)
	}
	for _, p := range held {
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Environ is the environment that the process was started with. The error
// wraps fs.ErrNotExist or unix.ESRCH when the process is gone.
func Environ(pid int) (map[string]string, error) {
	data, err := os.ReadFile(procPath(pid, "environ"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the environment of process %d: %w", pid, err)
	}
	env := make(map[string]string)
	for _, kv := range strings.Split(string(data), "\x00") {
		k, v, ok := strings.Cut(kv, "=")
		if _, seen := env[k]; ok && !seen {
			env[k] = v // the first one is what getenv finds
		}
	}
	return env, nil
}

// StartTime is when the process was started, in clock ticks since boot. With
// its number it names a process until the next boot.
func StartTime(pid int) (uint64, error) {
	data, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return 0, fmt.Errorf("cannot tell when process %d started: %w", pid, err)
	}
	// The second field, the name, may hold spaces and parentheses.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const startTime = 22 - 3 // counted from the third field on
	if len(fields) <= startTime {
		return 0, fmt.Errorf("cannot tell when process %d started: stat has %d fields", pid, len(fields)+2)
	}
	t, err := strconv.ParseUint(string(fields[startTime]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot tell when process %d started: %w", pid, err)
	}
	return t, nil
}

// PIDs lists every process, ascending.
func PIDs() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

func procPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// gone tells whether err means that a process or cgroup is no longer there.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV)
}
