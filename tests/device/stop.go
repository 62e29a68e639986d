// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"endured/tests/lib/machines"
)

// sigPowerOff is what systemd takes for "power off", SIGRTMIN+4 as the C library counts.
const sigPowerOff = syscall.Signal(34 + 4)

const stopTimeout = 15 * time.Second

func (h *host) cmdStop(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("stop", flag.ContinueOnError)
	force := f.Bool("force", false, "kill instead of shutting down")
	name, _, err := machines.ParseNamed("device", f, args)
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
		os.Remove(h.Of(name + ".lock"))
		os.Remove(h.Path)
		return err
	}
	return h.remove(ctx, r, *force)
}

func (h *host) cmdCrash(ctx context.Context, args []string) error {
	name, _, err := machines.ParseNamed("device", flag.NewFlagSet("crash", flag.ContinueOnError), args)
	if err != nil {
		return err
	}
	r, unlock, err := machines.Take[record](ctx, h.Dir, name)
	if err != nil {
		return err
	}
	defer unlock()
	if !r.Running() {
		return fmt.Errorf("cannot crash device %q: it is not running", name)
	}
	return h.settleDown(ctx, r)
}

func (h *host) cmdReboot(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("reboot", flag.ContinueOnError)
	timeout := f.Duration("timeout", 60*time.Second, "how long the boot may take")
	name, _, err := machines.ParseNamed("device", f, args)
	if err != nil {
		return err
	}
	r, unlock, err := machines.Take[record](ctx, h.Dir, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.shutDown(ctx, r); err != nil {
		return err
	}
	return h.start(ctx, name, startOptions{timeout: *timeout})
}

// remove takes the device down and everything of it away, the lock last.
func (h *host) remove(ctx context.Context, r *record, force bool) error {
	var err error
	if force {
		err = h.settleDown(ctx, r)
	} else {
		err = h.shutDown(ctx, r)
	}
	if err != nil {
		return err
	}
	if !r.Foreign {
		if err := os.RemoveAll(r.Upper); err != nil {
			return fmt.Errorf("cannot remove the device's files: %w", err)
		}
	}
	if err := os.RemoveAll(h.Of(r.Name)); err != nil {
		return fmt.Errorf("cannot remove the device: %w", err)
	}
	// The parents go with their last device; until then these fail, as they should.
	os.Remove(h.uppers)
	os.Remove(h.Of(r.Name + ".lock"))
	os.Remove(h.Path)
	return nil
}

// shutDown asks PID 1 to power off and, after stopTimeout, takes the device down by force.
func (h *host) shutDown(ctx context.Context, r *record) error {
	if r.Running() {
		if err := unix.Kill(r.PID, sigPowerOff); err != nil {
			return fmt.Errorf("cannot stop device %q: %w", r.Name, err)
		}
		wait, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		if err := machines.AwaitExit(wait, r.PID); err != nil {
			fmt.Fprintf(os.Stderr, "device: %s did not shut down in %v, killing it\n", r.Name, stopTimeout)
		}
	}
	return h.settleDown(ctx, r)
}

// settleDown kills what is left of the device and returns when the kernel has let go of its cgroup and image,
// so that the next start finds neither a living process nor an image still mounted.
func (h *host) settleDown(ctx context.Context, r *record) error {
	cg := h.cgroup(r.Name)
	if r.Running() {
		if err := unix.Kill(r.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot kill device %q: %w", r.Name, err)
		}
		if err := machines.AwaitExit(ctx, r.PID); err != nil {
			return fmt.Errorf("cannot kill device %q: %w", r.Name, err)
		}
	}
	if err := removeCgroup(ctx, cg); err != nil {
		return err
	}
	image := h.Of(r.Name, "disk.img")
	// The kernel drops the mounts of a dead namespace a moment later, and says so to nobody.
	err := machines.RetryFor(ctx, 10*time.Second, func() error {
		if loops := loopsOf(image); len(loops) != 0 {
			return fmt.Errorf("its image is still held by %s", strings.Join(loops, " "))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot take down device %q: %w", r.Name, err)
	}
	if r.PID == 0 {
		return nil
	}
	r.SetPID(0)
	return h.save(r)
}

// removeCgroup kills every process in the cgroup and removes it with all below it.
func removeCgroup(ctx context.Context, path string) error {
	err := os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot kill the processes of %s: %w", path, err)
	}
	err = machines.RetryFor(ctx, 10*time.Second, func() error {
		var dirs []string
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			if e := unix.Rmdir(dirs[i]); e != nil && !errors.Is(e, unix.ENOENT) {
				err = errors.Join(err, e)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot remove cgroup %s: %w", path, err)
	}
	return nil
}
