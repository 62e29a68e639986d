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

// machine is where scripts run: a device, a VM, or the host itself.
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
	// machineNames begins the names of the job's machines.
	machineNames() string
}

// kind is a backend of spread.yaml: the program of that name in bin makes its machines, and all such programs have the
// same verbs.
type kind struct {
	name    string
	program string
}

func (r *runner) kind(name string) kind {
	return kind{name: name, program: filepath.Join(r.root, "bin", name)}
}

const vmBackend = "vm"

// prepare makes the image of VMs, which takes a minute the first time; devices need none.
func (k kind) prepare(ctx context.Context) error {
	if k.name != vmBackend {
		return nil
	}
	cmd := exec.CommandContext(ctx, k.program, "prepare")
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(os.Stderr, &said)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot make the image of VMs: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// guestMachine is a device or a VM in which jobs run.
type guestMachine struct {
	kind
	name  string
	path  string // of the project, inside
	dir   string // of its scripts, on the host
	count int
}

const scriptGroup = "task"

func bootGuest(ctx context.Context, k kind, name, path, dir string) (*guestMachine, error) {
	if out, err := exec.CommandContext(ctx, k.program, "start", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot boot a %s: %w: %s", k.name, err, bytes.TrimSpace(out))
	}
	return &guestMachine{kind: k, name: name, path: path, dir: dir}, nil
}

func (m *guestMachine) root() string         { return m.path }
func (m *guestMachine) env() []variable      { return nil }
func (m *guestMachine) machineNames() string { return m.name }

func (m *guestMachine) run(ctx context.Context, script string, out io.Writer) error {
	m.count++
	local := filepath.Join(m.dir, m.name+".script")
	if err := os.WriteFile(local, []byte(script), 0755); err != nil {
		return err
	}
	remote := fmt.Sprintf("/srv/host/script-%d", m.count)
	cmd := exec.Command(m.program, "exec", "--group", scriptGroup, "--file", remote+"="+local, m.name, "bash", remote)
	cmd.Stdout, cmd.Stderr = out, out
	return runUntil(ctx, cmd, m.sweep)
}

func (m *guestMachine) reboot(ctx context.Context, out io.Writer) error {
	how, err := exec.CommandContext(ctx, m.program, "exec", m.name, "cat", "/srv/host/reboot").Output()
	if err != nil {
		return fmt.Errorf("cannot ask how to reboot: %w", err)
	}
	steps := [][]string{{"reboot", m.name}}
	if strings.TrimSpace(string(how)) == "--crash" {
		steps = [][]string{{"crash", m.name}, {"start", m.name}}
	}
	for _, s := range steps {
		cmd := exec.CommandContext(ctx, m.program, s...)
		cmd.Env = append(os.Environ(), "DEVICE_OVERLAYS=")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("cannot %s the %s: %w", s[0], m.kind.name, err)
		}
	}
	return nil
}

func (m *guestMachine) sweep() { exec.Command(m.program, "kill", m.name, scriptGroup).Run() }

// alive says whether the guest does what it is told: one that does not would hold up everything that is asked of it.
func (m *guestMachine) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, m.program, "exec", m.name, "true").Run() == nil
}

func (m *guestMachine) stop() {
	if out, err := exec.Command(m.program, "stop", "--force", m.name).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "run: cannot stop a %s: %v: %s\n", m.kind.name, err, bytes.TrimSpace(out))
	}
}

// hostMachine runs scripts on the host; the machines that they start have names that begin with prefix.
type hostMachine struct {
	kind
	project string
	prefix  string
	dir     string
	group   int
}

func (m *hostMachine) root() string         { return m.project }
func (m *hostMachine) machineNames() string { return m.prefix }

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

// sweep stops the machines that the job left.
func (m *hostMachine) sweep() {
	for _, name := range m.kind.machines(m.prefix) {
		exec.Command(m.program, "stop", "--force", name).Run()
	}
}

// machines lists the machines whose names begin with prefix.
func (k kind) machines(prefix string) []string {
	out, _ := exec.Command(k.program, "list").Output()
	var names []string
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

// keepLogs copies what VMs whose names begin with prefix left on the host, and says where to.
func (k kind) keepLogs(prefix, log string) string {
	if k.name != vmBackend {
		return ""
	}
	var b strings.Builder
	for _, name := range k.machines(prefix) {
		dir, _ := exec.Command(k.program, "host", name).Output()
		for _, file := range []string{"console", "journal", "qemu.log"} {
			to := log + "." + name + "." + file
			data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), file))
			if err == nil {
				err = os.WriteFile(to, data, 0644)
			}
			if err != nil {
				fmt.Fprintf(&b, "(cannot keep the %s of %s: %v)\n", file, name, err)
			} else {
				fmt.Fprintf(&b, "kept: %s\n", to)
			}
		}
	}
	return b.String()
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
