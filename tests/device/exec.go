// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"endured/tests/lib/machines"
)

type execOptions struct {
	group string // sub-cgroup to run in, "" for the common one
	cwd   string
	env   []string
}

func (h *host) cmdExec(_ context.Context, args []string) error {
	var o execOptions
	var env, files machines.Strings
	f := flag.NewFlagSet("exec", flag.ContinueOnError)
	f.StringVar(&o.group, "group", "", "name under which kill finds these processes")
	f.StringVar(&o.cwd, "cwd", "/root", "directory to start in")
	f.Var(&env, "env", "variable to set, K=V")
	f.Var(&files, "file", "REMOTE=LOCAL: file to copy below /srv/host first")
	name, argv, err := machines.ParseNamed("device", f, args)
	if err != nil {
		return err
	}
	if err := h.copyInside(name, files); err != nil {
		return err
	}
	o.env = env
	if len(argv) == 0 {
		return errors.New("cannot execute nothing")
	}
	return h.runInside(name, o, argv)
}

// copyInside copies files, each given as REMOTE=LOCAL, to the directory that is /srv/host inside.
func (h *host) copyInside(name string, files []string) error {
	for _, f := range files {
		remote, local, _ := strings.Cut(f, "=")
		rel, ok := strings.CutPrefix(remote, "/srv/host/")
		if !ok || !filepath.IsLocal(rel) {
			return fmt.Errorf("cannot copy to %q: only below /srv/host", remote)
		}
		data, err := os.ReadFile(local)
		if err == nil {
			err = os.WriteFile(h.Of(name, "host", rel), data, 0755)
		}
		if err != nil {
			return fmt.Errorf("cannot copy to device %q: %w", name, err)
		}
	}
	return nil
}

func (h *host) cmdShell(_ context.Context, args []string) error {
	name, rest, err := machines.ParseNamed("device", flag.NewFlagSet("shell", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	o := execOptions{cwd: "/root", env: []string{"TERM=" + os.Getenv("TERM"), "PS1=" + name + `:\w# `}}
	return h.runInside(name, o, append([]string{"bash", "--norc", "-i"}, rest...))
}

// runInside runs the command inside with this process's descriptors, passes signals on, and returns its exit code as
// an *machines.ExitError.
func (h *host) runInside(name string, o execOptions, argv []string) error {
	r, err := h.load(name)
	if err != nil {
		return err
	}
	if !r.Running() {
		return fmt.Errorf("cannot execute in device %q: it is not running", name)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	cmd := &exec.Cmd{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := h.startInside(r, o, argv, cmd); err != nil {
		return err
	}
	// A terminal sends its signals to the command as well.
	_, err = unix.IoctlGetTermios(0, unix.TCGETS)
	terminal := err == nil
	go func() {
		for s := range signals {
			if s != unix.SIGINT || !terminal {
				cmd.Process.Signal(s)
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	status := exit.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return &machines.ExitError{Code: 128 + int(status.Signal())}
	}
	return &machines.ExitError{Code: status.ExitStatus()}
}

// startInside starts a command in the device's namespaces and, below its cgroup, in a group.
//
// Not in the device's root cgroup, where namespaces alone would leave it: there systemd takes it for a process without
// unit, and scopes made from it go wrong. And as this process's own child, outside the group: what is killed with
// the group is then reaped, where it would stay a zombie that holds up the device's shutdown.
//
// The calling goroutine must not do anything else afterwards that depends on namespaces: its thread is the device's.
func (h *host) startInside(r *record, o execOptions, argv []string, cmd *exec.Cmd) error {
	group := o.group
	if group == "" {
		group = "common"
	}
	join, leave, err := h.openGroup(r, group)
	if err != nil {
		return err
	}
	defer join.Close()
	defer leave.Close()
	pidfd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		return fmt.Errorf("cannot enter device %q: %w", r.Name, err)
	}
	defer unix.Close(pidfd)
	runtime.LockOSThread()
	if err := dropHostPowers(); err != nil {
		return err
	}
	// A mount namespace is entered only by a thread that shares its directory with no other.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("cannot enter device %q: %w", r.Name, err)
	}
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP
	if err := unix.Setns(pidfd, all); err != nil {
		return fmt.Errorf("cannot enter device %q: %w", r.Name, err)
	}
	cmd.Path = "/usr/bin/env"
	cmd.Args = append([]string{"env"}, argv...)
	cmd.Dir = o.cwd
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = append([]string{"PATH=" + insidePath, "HOME=/root", "LANG=C.UTF-8", "SYSTEMD_PAGER="}, o.env...)
	if _, err := join.WriteString("0"); err != nil {
		return fmt.Errorf("cannot join the device's cgroup: %w", err)
	}
	err = cmd.Start()
	if _, e := leave.WriteString("0"); e != nil {
		err = errors.Join(err, fmt.Errorf("cannot leave the device's cgroup: %w", e))
	}
	if err != nil {
		return fmt.Errorf("cannot execute in device %q: %w", r.Name, err)
	}
	return nil
}

// openGroup opens what moves this process to a group of the device, and back. (Cloning into the group would be simpler,
// but Linux 6.18 kills at birth what is cloned into a cgroup that was ever killed.)
func (h *host) openGroup(r *record, group string) (join, leave *os.File, err error) {
	dir := filepath.Join(h.cgroup(r.Name), "harness", group)
	if err := os.MkdirAll(dir, 0755); err != nil {
		return nil, nil, fmt.Errorf("cannot make a cgroup in the device: %w", err)
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot find this process's cgroup: %w", err)
	}
	home := ""
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			home = filepath.Join(h.cgroups, strings.TrimSpace(path))
		}
	}
	if leave, err = os.OpenFile(filepath.Join(home, "cgroup.procs"), os.O_WRONLY, 0); err != nil {
		return nil, nil, fmt.Errorf("cannot open this process's cgroup: %w", err)
	}
	if join, err = os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0); err != nil {
		leave.Close()
		return nil, nil, fmt.Errorf("cannot open the device's cgroup: %w", err)
	}
	return join, leave, nil
}

func (h *host) cmdKill(_ context.Context, args []string) error {
	name, rest, err := machines.ParseNamed("device", flag.NewFlagSet("kill", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || !machines.ValidName(rest[0]) {
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

func (h *host) cmdHost(_ context.Context, args []string) error {
	name, _, err := machines.ParseNamed("device", flag.NewFlagSet("host", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	if _, err := h.load(name); err != nil {
		return err
	}
	fmt.Println(h.Of(name, "host"))
	return nil
}
