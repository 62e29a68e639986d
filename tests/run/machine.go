// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// machine is where scripts run: a device, or the host itself.
type machine interface {
	// root is where the project is seen.
	root() string
	// env is what the machine adds to the environment of scripts.
	env() []variable
	// run executes a script, with all output to out; it is killed with all it started when ctx ends.
	run(ctx context.Context, script string, out io.Writer) error
	// reboot takes the machine down as the script asked, and up again.
	reboot(ctx context.Context, out io.Writer) error
	// sweep kills what the job's scripts left running.
	sweep()
}

// deviceMachine is a device in which jobs run.
type deviceMachine struct {
	program string
	name    string
	path    string // of the project, inside
	host    string // the directory that is /srv/host inside
	count   int
}

const scriptGroup = "task"

func bootDevice(ctx context.Context, program, name, path string) (*deviceMachine, error) {
	if out, err := exec.CommandContext(ctx, program, "start", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot boot a device: %w: %s", err, bytes.TrimSpace(out))
	}
	out, err := exec.Command(program, "host", name).Output()
	if err != nil {
		return nil, fmt.Errorf("cannot boot a device: %w", err)
	}
	return &deviceMachine{program: program, name: name, path: path, host: strings.TrimSpace(string(out))}, nil
}

func (m *deviceMachine) root() string    { return m.path }
func (m *deviceMachine) env() []variable { return nil }

func (m *deviceMachine) run(ctx context.Context, script string, out io.Writer) error {
	m.count++
	file := fmt.Sprintf("script-%d", m.count)
	if err := os.WriteFile(filepath.Join(m.host, file), []byte(script), 0755); err != nil {
		return err
	}
	cmd := exec.Command(m.program, "exec", "--group", scriptGroup, m.name, "bash", "/srv/host/"+file)
	cmd.Stdout, cmd.Stderr = out, out
	return runUntil(ctx, cmd, m.sweep)
}

func (m *deviceMachine) reboot(ctx context.Context, out io.Writer) error {
	how, _ := os.ReadFile(filepath.Join(m.host, "reboot"))
	steps := [][]string{{"reboot", m.name}}
	if strings.TrimSpace(string(how)) == "--crash" {
		steps = [][]string{{"crash", m.name}, {"start", m.name}}
	}
	for _, s := range steps {
		cmd := exec.CommandContext(ctx, m.program, s...)
		cmd.Env = append(os.Environ(), "DEVICE_OVERLAYS=")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("cannot %s the device: %w", s[0], err)
		}
	}
	return nil
}

func (m *deviceMachine) sweep() { exec.Command(m.program, "kill", m.name, scriptGroup).Run() }

func (m *deviceMachine) stop() {
	if out, err := exec.Command(m.program, "stop", "--force", m.name).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "run: cannot stop a device: %v: %s\n", err, bytes.TrimSpace(out))
	}
}

// hostMachine runs scripts on the host; the devices that they start have names that begin with prefix.
type hostMachine struct {
	program string
	project string
	prefix  string
	dir     string
	group   int
}

func (m *hostMachine) root() string { return m.project }

func (m *hostMachine) env() []variable {
	return []variable{
		{Name: "DEVICE", Value: m.program}, {Name: "DEVICE_NAME", Value: m.prefix}, {Name: "TASK_DIR", Value: m.dir},
		{Name: "PROJECT", Value: m.project},
	}
}

func (m *hostMachine) run(ctx context.Context, script string, out io.Writer) error {
	file := filepath.Join(m.dir, "script")
	if err := os.WriteFile(file, []byte(script), 0755); err != nil {
		return err
	}
	cmd := exec.Command("bash", file)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return runUntil(ctx, cmd, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
}

func (m *hostMachine) reboot(context.Context, io.Writer) error {
	return errors.New("cannot reboot the host")
}

// sweep stops the devices that the job left.
func (m *hostMachine) sweep() {
	out, _ := exec.Command(m.program, "list").Output()
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		if strings.HasPrefix(name, m.prefix) {
			exec.Command(m.program, "stop", "--force", name).Run()
		}
	}
}

// runUntil runs a command and calls kill when ctx ends first. Output goes to files, so background children that keep
// theirs open hold up nothing.
func runUntil(ctx context.Context, cmd *exec.Cmd, kill func()) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	kill()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
	}
	return context.Cause(ctx)
}
