// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"endured/dirs"
	"endured/osutil"
	"endured/overlord"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/systemd"
	"endured/systemd/systemdtest"
)

// running is which of the other snaps have a service that runs: every fifth.
const running = 5

var errBudget = errors.New("the time for installing other snaps is used up")

// installOthers brings the number of other snaps up to n, or to as many as the
// budget allows. Each has one service, and every fifth of them runs.
//
// They are installed by the daemon's own code, but with a PID 1 in memory: the
// real one would read all units again for each of them, and 500 would take a
// quarter of an hour. It takes note of them at the end, as it does in a boot.
func (b *bench) installOthers(ctx context.Context, n int) error {
	before := b.others
	if n <= before {
		return nil
	}
	began := time.Now()
	if err := output(ctx, "systemctl", "stop", "snapd.socket", "snapd.service"); err != nil {
		return err
	}
	b.until = began.Add(b.o.budget)
	err := b.seed(ctx, n-before)
	if err != nil && !errors.Is(err, errBudget) {
		return err
	}
	if err := output(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	var units []string
	for i := before; i < b.others; i += running {
		u := "snap." + otherName(i) + ".svc.service"
		if _, err := os.Stat("/etc/systemd/system/" + u); err == nil {
			units = append(units, u)
		}
	}
	if err := output(ctx, "systemctl", append([]string{"start", "snapd.socket", "snapd.service"}, units...)...); err != nil {
		return err
	}
	fmt.Printf("installed %d other snaps in %.0f s\n", b.others-before, time.Since(began).Seconds())
	if errors.Is(err, errBudget) {
		fmt.Printf("%d of %d other snaps fit into %s: see -budget\n", b.others, n, b.o.budget)
	}
	return nil
}

func otherName(i int) string { return fmt.Sprintf("other-%d", i) }

// seed installs more snaps while no daemon runs.
func (b *bench) seed(ctx context.Context, more int) error {
	const batch = 50 // the service manager in memory, too, reads again what it has read
	for more > 0 {
		n := min(more, batch)
		if err := b.seedSome(ctx, n); err != nil {
			return err
		}
		more -= n
	}
	return nil
}

func (b *bench) seedSome(ctx context.Context, n int) (err error) {
	fake := systemdtest.New("/", systemdtest.Hooks{Mount: mountSnap})
	defer fake.Close()
	manager, err := systemd.Dial(ctx, systemd.Options{DialFunc: fake.Dial})
	if err != nil {
		return err
	}
	defer manager.Close()
	cgroups, err := osutil.CgroupRoot()
	if err != nil {
		return err
	}
	boot, err := overlord.BootID()
	if err != nil {
		return err
	}
	o, err := overlord.New(overlord.Config{
		Dirs: dirs.New("/"), Systemd: manager, Log: slog.New(slog.DiscardHandler), CgroupRoot: cgroups, BootID: boot,
		SnapCommand: "/usr/bin/snap", NoReaper: true,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Stop()) }()
	if err := o.Start(ctx); err != nil {
		return err
	}
	first := b.others
	var mu sync.Mutex
	return parallel(n, func(i int) error {
		if time.Now().After(b.until) {
			return errBudget
		}
		if err := seedOne(ctx, o, first+i); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		b.others++
		return nil
	})
}

func seedOne(ctx context.Context, o *overlord.Overlord, i int) error {
	path, err := packTiny(ctx, otherName(i), i%running == 0)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	spool, err := os.CreateTemp(dirs.New("/").Blobs(), snapstate.SpoolPrefix)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err == nil {
		_, err = io.Copy(spool, f)
		f.Close()
	}
	if err := errors.Join(err, spool.Close()); err != nil {
		return err
	}
	id, err := o.InstallFile(ctx, spool.Name(), recipes.InstallOptions{Name: path, Flags: snapstate.Flags{Dangerous: true}})
	if err != nil {
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	if err := o.State().WaitChange(ctx, id); err != nil {
		return err
	}
	return o.State().View(func(tx *state.Tx) error {
		if err := tx.Change(id).Err(); err != nil {
			return fmt.Errorf("cannot install %s: %w", path, err)
		}
		return nil
	})
}

// mountSnap does what the mount unit would do.
func mountSnap(what, where string) error {
	if out, err := exec.Command("mount", "-t", "squashfs", "-o", "ro,nodev,nosuid,loop", what, where).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot mount %s: %w: %s", what, err, out)
	}
	return nil
}

func packTiny(ctx context.Context, name string, runs bool) (string, error) {
	tree := filepath.Join(work, name)
	defer os.RemoveAll(tree)
	yaml := "name: " + name + "\nversion: \"1\"\nsummary: One of many\ndescription: It does nothing.\nconfinement: strict\n" +
		"apps:\n  svc:\n    command: bin/svc\n    daemon: simple\n"
	if !runs {
		yaml += "    install-mode: disable\n"
	}
	for file, content := range map[string]string{"meta/snap.yaml": yaml, "bin/svc": "#!/bin/sh\nexec sleep infinity\n"} {
		path := filepath.Join(tree, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			return "", err
		}
	}
	path := tree + ".snap"
	return path, output(ctx, "mksquashfs", tree, path, "-noappend", "-quiet", "-no-progress", "-all-root", "-no-xattrs", "-processors", "1")
}
