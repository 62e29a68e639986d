// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

type execOptions struct {
	group string // sub-cgroup to run in, "" for the common one
	cwd   string
	env   []string
}

func (h *host) cmdExec(args []string) error {
	var o execOptions
	var env stringsFlag
	f := flag.NewFlagSet("exec", flag.ContinueOnError)
	f.StringVar(&o.group, "group", "", "name under which kill finds these processes")
	f.StringVar(&o.cwd, "cwd", "/root", "directory to start in")
	f.Var(&env, "env", "variable to set, K=V")
	name, argv, err := parseNamed(f, args)
	if err != nil {
		return err
	}
	o.env = env
	if len(argv) == 0 {
		return errors.New("cannot execute nothing")
	}
	return h.replaceBy(name, o, argv)
}

func (h *host) cmdShell(args []string) error {
	name, rest, err := parseNamed(flag.NewFlagSet("shell", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	o := execOptions{cwd: "/root", env: []string{"TERM=" + os.Getenv("TERM"), "PS1=" + name + `:\w# `}}
	return h.replaceBy(name, o, append([]string{"bash", "--norc", "-i"}, rest...))
}

// replaceBy executes the command inside in place of this process, so that signals and descriptors need no passing on.
func (h *host) replaceBy(name string, o execOptions, argv []string) error {
	r, err := h.load(name)
	if err != nil {
		return err
	}
	if !r.running() {
		return fmt.Errorf("cannot execute in device %q: it is not running", name)
	}
	if err := h.joinHarness(r, o.group); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := dropHostPowers(); err != nil {
		return err
	}
	cmd := h.command(r, o, argv...)
	path, err := exec.LookPath(cmd.Args[0])
	if err != nil {
		return fmt.Errorf("cannot enter the device: %w", err)
	}
	return fmt.Errorf("cannot execute %s: %w", path, unix.Exec(path, cmd.Args, os.Environ()))
}

// joinHarness moves this process into a cgroup of the device of its own. In the device's root cgroup, where
// namespaces alone would leave it, systemd takes it for a process without unit, and scopes made from it go wrong.
func (h *host) joinHarness(r *record, group string) error {
	dir := filepath.Join(h.cgroup(r.Name), "harness", group)
	if group == "" {
		dir = filepath.Join(dir, "common")
	}
	if err := os.MkdirAll(dir, 0755); err != nil {
		return fmt.Errorf("cannot make a cgroup in the device: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("cannot join the device's cgroup: %w", err)
	}
	return nil
}

// command builds the nsenter call for a command inside; without joinHarness it runs in the caller's cgroup.
func (h *host) command(r *record, o execOptions, argv ...string) *exec.Cmd {
	args := []string{"--target", strconv.Itoa(r.PID), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "env", "-i"}
	if o.cwd != "" {
		args = append(args, "--chdir="+o.cwd)
	}
	args = append(args, "PATH="+insidePath, "HOME=/root", "LANG=C.UTF-8", "SYSTEMD_PAGER=")
	args = append(args, o.env...)
	return exec.Command("nsenter", append(args, argv...)...)
}

func (h *host) cmdKill(args []string) error {
	name, rest, err := parseNamed(flag.NewFlagSet("kill", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || !validName.MatchString(rest[0]) {
		return errors.New("cannot kill without the name of a group")
	}
	if _, err := h.load(name); err != nil {
		return err
	}
	dir := filepath.Join(h.cgroup(name), "harness", rest[0])
	err = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot kill group %q: %w", rest[0], err)
	}
	return nil
}

func (h *host) cmdHost(args []string) error {
	name, _, err := parseNamed(flag.NewFlagSet("host", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	if _, err := h.load(name); err != nil {
		return err
	}
	fmt.Println(h.path(name, "host"))
	return nil
}
