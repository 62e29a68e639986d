// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"

	"endured/daemon"
	"endured/dirs"
	"endured/osutil"
	"endured/overlord"
	"endured/systemd"
)

// version is set by the linker.
var version = "unknown"

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "--version" {
		fmt.Println("snapd", version)
		return nil
	}
	if len(args) > 0 {
		return fmt.Errorf("cannot use argument %q: snapd takes none", args[0])
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: untimed}))
	manager, err := systemd.Dial(ctx, systemd.Options{Logger: log})
	if err != nil {
		return err
	}
	defer manager.Close()
	o, err := build(manager, log)
	if err != nil {
		return err
	}
	if err := o.Start(context.WithoutCancel(ctx)); err != nil {
		return errors.Join(err, o.Stop())
	}
	return errors.Join(serve(ctx, o, log), o.Stop())
}

// untimed drops the time of log lines: the journal has it.
func untimed(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

func build(manager *systemd.Manager, log *slog.Logger) (*overlord.Overlord, error) {
	cgroups, err := osutil.CgroupRoot()
	if err != nil {
		return nil, err
	}
	boot, err := overlord.BootID()
	if err != nil {
		return nil, err
	}
	return overlord.New(overlord.Config{
		Dirs: dirs.New("/"), Systemd: manager, Log: log, CgroupRoot: cgroups, BootID: boot,
		SnapCommand: snapCommand(), Journal: systemd.Journal{}, FaultHook: faultHook(),
	})
}

// snapCommand is the "snap" program that was installed with this daemon.
func snapCommand() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Join(filepath.Dir(self), "../../bin/snap")
}

func serve(ctx context.Context, o *overlord.Overlord, log *slog.Logger) error {
	listeners, err := listeners()
	if err != nil {
		return err
	}
	d := daemon.New(o, daemon.Options{Dirs: dirs.New("/"), Log: log, Version: version})
	failed := make(chan error, 1)
	go func() { failed <- d.Serve(listeners...) }()
	if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
		return fmt.Errorf("cannot tell systemd that the daemon is ready: %w", err)
	}
	go watchdog(ctx, log)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	sctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	return d.Shutdown(sctx)
}

// listeners takes the sockets that systemd holds, or makes them when the
// daemon was started by hand.
func listeners() ([]net.Listener, error) {
	ls, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("cannot take the sockets from systemd: %w", err)
	}
	if len(ls) > 0 {
		return ls, nil
	}
	for _, path := range []string{dirs.New("/").Socket(), dirs.New("/").SnapSocket()} {
		l, err := listen(path)
		if err != nil {
			return nil, fmt.Errorf("cannot listen: %w", err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// listen makes a socket for everybody.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o666)
}

// watchdog tells systemd at half its interval that the daemon is alive.
func watchdog(ctx context.Context, log *slog.Logger) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := sd.SdNotify(false, sd.SdNotifyWatchdog); err != nil {
				log.Warn("cannot tell systemd that the daemon is alive", "err", err)
			}
		}
	}
}
