// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"endured/tests/lib/machines"
)

// mkfs says how a file system is made, in the image that is named last.
var mkfs = map[string][]string{
	"ext4":  {"mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"},
	"xfs":   {"mkfs.xfs", "-q"},
	"btrfs": {"mkfs.btrfs", "-q"},
}

type startOptions struct {
	size     int64 // bytes, of a new disk
	fs       string
	overlays machines.Strings
	upper    string
	project  string
	owner    int
	noWait   bool
	timeout  time.Duration
}

func (h *host) cmdStart(ctx context.Context, args []string) error {
	var o startOptions
	size := "1G"
	f := flag.NewFlagSet("start", flag.ContinueOnError)
	f.StringVar(&size, "disk", size, "size of the disk, such as 512M or 4G")
	f.StringVar(&o.fs, "fs", "", "file system on it: ext4, xfs or btrfs")
	f.Var(&o.overlays, "overlay", "directory whose tree is copied over the root")
	f.StringVar(&o.upper, "keep-upper", "", "directory for the device's writes, kept by stop")
	f.StringVar(&o.project, "project", "", "directory shown at /srv/endured (default: the one around that has go.mod)")
	f.IntVar(&o.owner, "owner", 0, "process whose death makes this device a leftover")
	f.BoolVar(&o.noWait, "no-wait", false, "return as soon as PID 1 runs")
	f.DurationVar(&o.timeout, "timeout", 60*time.Second, "how long the boot may take")
	name, rest, err := machines.ParseNamed("device", f, args)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("cannot understand %q after the name", rest)
	}
	if o.size, err = machines.ParseSize(size); err != nil {
		return err
	}
	if o.fs = cmp.Or(o.fs, os.Getenv("DEVICE_FS"), "ext4"); mkfs[o.fs] == nil {
		return fmt.Errorf("cannot make a file system %q: want one of %s", o.fs, strings.Join(slices.Sorted(maps.Keys(mkfs)), ", "))
	}
	if o.owner == 0 {
		o.owner, _ = strconv.Atoi(os.Getenv("DEVICE_OWNER"))
	}
	o.overlays = append(filepath.SplitList(os.Getenv("DEVICE_OVERLAYS")), o.overlays...)
	for i, dir := range o.overlays {
		if o.overlays[i], err = filepath.Abs(dir); err != nil {
			return fmt.Errorf("cannot use the overlay %s: %w", dir, err)
		}
	}
	unlock, err := h.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return h.start(ctx, name, o)
}

// start boots the device; the caller holds its lock.
func (h *host) start(ctx context.Context, name string, o startOptions) error {
	r, err := h.load(name)
	fresh := errors.Is(err, os.ErrNotExist)
	switch {
	case fresh:
		if r, err = h.create(ctx, name, o); err != nil {
			os.RemoveAll(h.Of(name))
			return err
		}
	case err != nil:
		return err
	case r.Running():
		return fmt.Errorf("cannot start device %q: it is running", name)
	}
	if err := h.settleDown(ctx, r); err != nil {
		return err
	}
	notify, err := listenNotify(h.Of(name, "notify", "socket"))
	if err != nil {
		return err
	}
	defer notify.Close()
	if err := h.spawn(r, o); err != nil {
		if fresh {
			return errors.Join(err, h.remove(ctx, r, true))
		}
		return errors.Join(err, h.settleDown(ctx, r))
	}
	if o.noWait {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if err := awaitReady(wait, notify, r.PID); err != nil {
		return h.bootError(r, err)
	}
	return nil
}

func (h *host) create(ctx context.Context, name string, o startOptions) (*record, error) {
	r := &record{Record: machines.Record{Name: name, Created: time.Now()}, FS: o.fs, Upper: o.upper, Foreign: o.upper != "", Project: o.project}
	r.SetOwner(o.owner)
	if !r.Foreign {
		r.Upper = filepath.Join(h.uppers, name)
		// No record knows of it, so it is what a killed program left.
		if err := os.RemoveAll(r.Upper); err != nil {
			return nil, fmt.Errorf("cannot remove a leftover: %w", err)
		}
	}
	var err error
	if r.Upper, err = filepath.Abs(r.Upper); err != nil {
		return nil, fmt.Errorf("cannot use the upper directory: %w", err)
	}
	if r.Project == "" {
		r.Project = machines.ProjectAround()
	}
	for _, dir := range []string{r.Upper, h.Of(name, "host"), h.Of(name, "notify")} {
		if err := os.MkdirAll(dir, 0755); err != nil {
			return nil, fmt.Errorf("cannot make a directory of the device: %w", err)
		}
	}
	image := h.Of(name, "disk.img")
	if err := os.WriteFile(image, nil, 0600); err != nil {
		return nil, fmt.Errorf("cannot make the disk: %w", err)
	}
	if err := os.Truncate(image, o.size); err != nil {
		return nil, fmt.Errorf("cannot make the disk: %w", err)
	}
	how := append(mkfs[r.FS], image)
	if out, err := exec.CommandContext(ctx, how[0], how[1:]...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot make the disk: %w: %s", err, bytes.TrimSpace(out))
	}
	return r, h.save(r)
}

// spawn makes the namespaces and returns once systemd has taken the place of the program that furnished them.
func (h *host) spawn(r *record, o startOptions) error {
	cg := h.cgroup(r.Name)
	if err := os.Mkdir(cg, 0755); err != nil {
		return fmt.Errorf("cannot make the cgroup: %w", err)
	}
	cgdir, err := os.Open(cg)
	if err != nil {
		return fmt.Errorf("cannot open the cgroup: %w", err)
	}
	defer cgdir.Close()
	log, err := os.OpenFile(h.Of(r.Name, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0600)
	if err != nil {
		return fmt.Errorf("cannot open the log: %w", err)
	}
	defer log.Close()
	fromInside, errPipe, err := os.Pipe()
	if err != nil {
		return err
	}
	defer fromInside.Close()
	config, err := json.Marshal(insideConfig{
		Name: r.Name, Upper: r.Upper, FS: r.FS, Image: h.Of(r.Name, "disk.img"), Host: h.Of(r.Name, "host"),
		Notify: h.Of(r.Name, "notify"), Project: r.Project, Overlays: o.overlays, Hidden: h.Path,
	})
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initArg0, string(config)}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + insidePath}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{errPipe}
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UseCgroupFD: true,
		CgroupFD:    int(cgdir.Fd()),
		Setsid:      true,
	}
	err = cmd.Start()
	errPipe.Close()
	if err != nil {
		return fmt.Errorf("cannot make the device's namespaces: %w", err)
	}
	r.SetPID(cmd.Process.Pid)
	if err := h.save(r); err != nil {
		return err
	}
	trouble, err := io.ReadAll(fromInside)
	if err != nil {
		return fmt.Errorf("cannot hear from inside the device: %w", err)
	}
	if len(trouble) != 0 {
		cmd.Wait()
		return errors.New(string(trouble))
	}
	return cmd.Process.Release()
}

func listenNotify(path string) (*net.UnixConn, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot make the notify socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("cannot make the notify socket: %w", err)
	}
	return conn, nil
}

// awaitReady returns when systemd says that the boot is finished: sd_notify's READY=1, as to any container manager.
func awaitReady(ctx context.Context, conn *net.UnixConn, pid int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if machines.AwaitExit(ctx, pid) == nil {
			cancel(errors.New("its PID 1 is gone"))
		}
	}()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(buf[:n])) {
			if strings.TrimSpace(line) == "READY=1" {
				return nil
			}
		}
	}
}

// bootError adds to err what the device can say about a boot that did not end.
func (h *host) bootError(r *record, err error) error {
	var about strings.Builder
	if data, e := os.ReadFile(h.Of(r.Name, "log")); e == nil && len(data) != 0 {
		fmt.Fprintf(&about, "\n%s", bytes.TrimSpace(data))
	}
	if jobs := h.pendingJobs(r); jobs != "" {
		fmt.Fprintf(&about, "\n%s", jobs)
	}
	return fmt.Errorf("cannot boot device %q: %w%s", r.Name, err, about.String())
}

// pendingJobs asks a device what it waits for; "" if it does not answer.
func (h *host) pendingJobs(r *record) string {
	if !r.Running() {
		return ""
	}
	answer := make(chan string, 1)
	// A thread that has entered the device is of no more use here: it ends with its goroutine.
	go func() {
		var out bytes.Buffer
		cmd := &exec.Cmd{Stdout: &out, Stderr: &out}
		if h.startInside(r, execOptions{}, []string{"systemctl", "--no-pager", "list-jobs", "--after"}, cmd) == nil {
			cmd.Wait()
		}
		answer <- strings.TrimSpace(out.String())
	}()
	select {
	case jobs := <-answer:
		return jobs
	case <-time.After(5 * time.Second):
		return ""
	}
}
