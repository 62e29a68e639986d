// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"endured/tests/lib/machines"
	"endured/tests/vm/guest"
)

const stopTimeout = time.Minute

func (h *host) cmdExec(ctx context.Context, args []string) error {
	var env, files machines.Strings
	c := new(guest.Call)
	f := flag.NewFlagSet("exec", flag.ContinueOnError)
	f.StringVar(&c.Group, "group", "common", "name under which kill finds these processes")
	f.StringVar(&c.Dir, "cwd", "/root", "directory to start in")
	f.Var(&env, "env", "variable to set, K=V")
	f.Var(&files, "file", "REMOTE=LOCAL: file to copy to the guest first")
	timeout := f.Duration("timeout", 0, "how long it may take; 0 is for ever")
	name, argv, err := machines.ParseNamed("VM", f, args)
	if err != nil {
		return err
	}
	c.Argv, c.Env, c.Files = argv, env, make(map[string][]byte)
	for _, f := range files {
		remote, local, _ := strings.Cut(f, "=")
		if c.Files[remote], err = os.ReadFile(local); err != nil {
			return err
		}
	}
	return h.runInside(ctx, name, c, *timeout, os.Stdin, os.Stdout)
}

// runInside runs a command with this process's descriptors, but for those given, and passes signals on: they do not end
// this process before the command has. A timeout of 0 is for ever.
func (h *host) runInside(ctx context.Context, name string, c *guest.Call, timeout time.Duration, in io.Reader, out io.Writer) error {
	r, err := h.runningRecord(name, "execute in")
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	ctx = context.WithoutCancel(ctx)
	if timeout != 0 {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it takes longer than %v", timeout))
		defer cancel()
	}
	watched, done := h.watch(ctx, r)
	defer done()
	err = execute(watched, r.address(), c, streams{in: in, out: out, err: os.Stderr, signals: signals})
	var exit *machines.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("cannot execute in VM %q: %w%s", name, r.reason(err), h.lastWords(name))
	}
	return err
}

func (h *host) cmdShell(ctx context.Context, args []string) error {
	name, rest, err := machines.ParseNamed("VM", flag.NewFlagSet("shell", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		old, err := term.MakeRaw(fd)
		if err != nil {
			return err
		}
		defer term.Restore(fd, old)
	}
	command := strings.Join(append([]string{"bash --norc -i"}, rest...), " ")
	c := &guest.Call{
		Argv: []string{"script", "-q", "-e", "-c", command, "/dev/null"}, Group: "shell",
		Env: []string{"TERM=" + os.Getenv("TERM"), "PS1=" + name + `:\w# `},
	}
	return h.runInside(ctx, name, c, 0, os.Stdin, os.Stdout)
}

func (h *host) cmdPut(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("put", flag.ContinueOnError)
	name, rest, err := machines.ParseNamed("VM", f, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return errors.New("cannot put without a local and a remote path")
	}
	file, err := os.Open(rest[0])
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	script := `mkdir -p "$(dirname "$1")" && cat >"$1.new" && chmod "$2" "$1.new" && mv -T "$1.new" "$1"`
	c := &guest.Call{Argv: []string{"bash", "-c", script, "put", rest[1], fmt.Sprintf("%o", info.Mode().Perm())}, Group: "common"}
	return h.runInside(ctx, name, c, 0, file, os.Stdout)
}

func (h *host) cmdGet(ctx context.Context, args []string) error {
	name, rest, err := machines.ParseNamed("VM", flag.NewFlagSet("get", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return errors.New("cannot get without a remote and a local path")
	}
	file, err := os.Create(rest[1])
	if err != nil {
		return err
	}
	err = h.runInside(ctx, name, &guest.Call{Argv: []string{"cat", rest[0]}, Group: "common"}, 0, nil, file)
	return errors.Join(err, file.Close())
}

func (h *host) cmdKill(ctx context.Context, args []string) error {
	name, rest, err := machines.ParseNamed("VM", flag.NewFlagSet("kill", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return errors.New("cannot kill without the name of a group")
	}
	r, err := h.runningRecord(name, "kill in")
	if err != nil {
		return err
	}
	if _, err := ask(ctx, r.address(), time.Minute, &guest.Call{Verb: guest.Kill, Group: rest[0]}); err != nil {
		return fmt.Errorf("cannot kill in VM %q: %w", name, err)
	}
	return nil
}

func (h *host) cmdStop(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("stop", flag.ContinueOnError)
	order := f.Bool("order", false, "shut down in order first")
	f.Bool("force", false, "kill instead of shutting down, which is the default")
	name, _, err := machines.ParseNamed("VM", f, args)
	if err != nil {
		return err
	}
	unlock, err := h.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := h.load(name)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			h.forget(ctx, &record{Record: machines.Record{Name: name}})
		}
		return err
	}
	if *order {
		err = h.shutDown(ctx, r, "poweroff")
	}
	return errors.Join(err, h.forget(ctx, r))
}

// cmdCrash cuts the power.
func (h *host) cmdCrash(ctx context.Context, args []string) error {
	name, _, err := machines.ParseNamed("VM", flag.NewFlagSet("crash", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	unlock, err := h.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := h.runningRecord(name, "crash")
	if err != nil {
		return err
	}
	return h.kill(ctx, r)
}

func (h *host) cmdReboot(ctx context.Context, args []string) error {
	var o startOptions
	f := flag.NewFlagSet("reboot", flag.ContinueOnError)
	f.DurationVar(&o.timeout, "timeout", bootTimeout, "how long the boot may take")
	name, _, err := machines.ParseNamed("VM", f, args)
	if err != nil {
		return err
	}
	unlock, err := h.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := h.runningRecord(name, "reboot")
	if err != nil {
		return err
	}
	o.nice, _ = strconv.Atoi(os.Getenv("VM_NICE"))
	i, err := h.imageFor(ctx, name)
	if err == nil {
		err = h.shutDown(ctx, r, "reboot")
	}
	if err != nil {
		return err
	}
	return h.start(ctx, i, name, o)
}

// shutDown asks the guest's systemd to end, and returns when QEMU has.
func (h *host) shutDown(ctx context.Context, r *record, how string) error {
	if r.Running() {
		c := &guest.Call{Argv: []string{"systemctl", "--no-block", how}, Group: "common"}
		limited, cancel := context.WithTimeoutCause(ctx, stopTimeout, fmt.Errorf("it takes longer than %v", stopTimeout))
		defer cancel()
		// The guest may be gone before it answers.
		execute(limited, r.address(), c, streams{out: io.Discard, err: os.Stderr})
		if err := machines.AwaitExit(limited, r.PID); err != nil {
			return fmt.Errorf("cannot %s VM %q: %w%s", how, r.Name, context.Cause(limited), h.lastWords(r.Name))
		}
	}
	return h.kill(ctx, r)
}

func (h *host) cmdHost(_ context.Context, args []string) error {
	name, _, err := machines.ParseNamed("VM", flag.NewFlagSet("host", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	if _, err := h.load(name); err != nil {
		return err
	}
	fmt.Println(h.Of(name))
	return nil
}

func (h *host) cmdList(context.Context, []string) error { return h.List(os.Stdout) }

// cmdClean removes VMs whose owner is gone, VMs that are down and nobody's, and files that belong to no VM.
func (h *host) cmdClean(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("clean", flag.ContinueOnError)
	all := f.Bool("all", false, "running VMs too, whoever owns them")
	if err := f.Parse(args); err != nil {
		return err
	}
	var others []string
	for _, pattern := range []string{filepath.Join(h.disks, "*"), h.Of("*.lock")} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			others = append(others, strings.TrimSuffix(filepath.Base(p), ".lock"))
		}
	}
	defer os.Remove(h.disks)
	return h.Clean(ctx, others, *all, func(name string, _ bool) error {
		return h.forget(ctx, &record{Record: machines.Record{Name: name}})
	})
}
