// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"

// linger is how long output is waited for after a command has ended: its children may hold the pipes for ever.
const linger = 200 * time.Millisecond

// execute runs the command of a call in its group, and returns its exit status.
func execute(c *Conn, call *Call, groups string) (int, error) {
	if len(call.Argv) == 0 {
		return 0, errors.New("cannot execute nothing")
	}
	for name, data := range call.Files {
		if err := os.MkdirAll(filepath.Dir(name), 0755); err != nil {
			return 0, err
		}
		if err := os.WriteFile(name, data, 0755); err != nil {
			return 0, err
		}
	}
	group := filepath.Join(groups, "group-"+call.Group)
	if err := os.MkdirAll(group, 0755); err != nil {
		return 0, fmt.Errorf("cannot make a cgroup: %w", err)
	}
	dir, err := os.Open(group)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	// A cgroup that kill removed in between cannot be entered; the next call makes it anew.
	cmd := exec.Command("/usr/bin/env", call.Argv...)
	cmd.Dir = call.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/root"
	}
	cmd.Env = append([]string{"PATH=" + path, "HOME=/root", "LANG=C.UTF-8", "SYSTEMD_PAGER="}, call.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	out, err := newRelay(c, Stdout, &cmd.Stdout)
	if err != nil {
		return 0, err
	}
	trouble, err := newRelay(c, Stderr, &cmd.Stderr)
	if err != nil {
		return 0, err
	}
	stdin, in, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	cmd.Stdin = stdin
	err = cmd.Start()
	stdin.Close()
	out.started(c)
	trouble.started(c)
	if err != nil {
		in.Close()
		return 0, fmt.Errorf("cannot execute %s: %w", call.Argv[0], err)
	}
	ended := make(chan struct{})
	go feed(c, cmd.Process, in, ended)
	err = cmd.Wait()
	close(ended)
	late := time.After(linger)
	for _, r := range []*relay{out, trouble} {
		select {
		case <-r.done:
		case <-late:
			late = time.After(0)
		}
		r.stop()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// feed passes on input and signals from the host. A host that is gone takes the command with it.
func feed(c *Conn, p *os.Process, in *os.File, ended <-chan struct{}) {
	defer in.Close()
	for {
		kind, payload, err := c.Receive()
		if err != nil {
			select {
			case <-ended:
			default:
				syscall.Kill(-p.Pid, syscall.SIGHUP)
			}
			return
		}
		switch {
		case kind == Signal && len(payload) == 1:
			p.Signal(syscall.Signal(payload[0]))
		case kind == Stdin && len(payload) == 0:
			in.Close()
		case kind == Stdin:
			// A command that closed its input wants no more of it.
			in.Write(payload)
		}
	}
}

// relay sends what a command writes until told to stop, and then reads on: whoever still writes must not be hit by
// SIGPIPE.
type relay struct {
	read, write *os.File
	kind        byte
	done        chan struct{}

	mu      sync.Mutex
	stopped bool
}

func newRelay(c *Conn, kind byte, to *io.Writer) (*relay, error) {
	r := &relay{kind: kind, done: make(chan struct{})}
	var err error
	if r.read, r.write, err = os.Pipe(); err != nil {
		return nil, err
	}
	*to = r.write
	return r, nil
}

func (r *relay) started(c *Conn) {
	r.write.Close()
	go func() {
		defer close(r.done)
		defer r.read.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := r.read.Read(buf)
			if err != nil {
				return
			}
			r.mu.Lock()
			if !r.stopped {
				c.Send(r.kind, buf[:n])
			}
			r.mu.Unlock()
		}
	}()
}

func (r *relay) stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
}
