// SPDX-License-Identifier: Apache-2.0

// Command bench measures refreshes on a device of its own: how long a service
// is away, how long the whole takes, and what it costs the machine.
//
// Absolute times depend on the machine and on what else it does, so each is
// also given as a multiple of something plain that was measured in the same
// run: a bare restart of the service, a bare daemon-reload, a plain copy.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: bench [FLAG]…

Boots a device, installs the tree that "make install DESTDIR=build/bench" left, and refreshes a one-service snap again
and again: with little and with much data, with few and with many other snaps installed, and with workers that outlive their main.

`

// options are the same on the host and inside the device.
type options struct {
	refreshes int
	traced    int
	data      string
	others    string
	workers   string
	budget    time.Duration
	verbose   bool
	stage     string
	keep      bool
	parts     string
	sealed    string
	dropCache bool
}

// The parts that can be asked for. What vmPart is, "profiles" does in the VM.
func allParts() []string { return []string{"refresh", "seal", "starts", "lists", "profiles"} }

const vmPart = "vm"

func (o *options) has(part string) bool { return slices.Contains(strings.Split(o.parts, ","), part) }

func parse(args []string) (*options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	others := os.Getenv("BENCH_SNAPS")
	if others == "" {
		others = "500"
	}
	f.StringVar(&o.parts, "parts", strings.Join(allParts(), ","), "what to measure: refreshes, the seal, the start of a confined service, the command line with many snaps, AppArmor profiles in a VM")
	f.StringVar(&o.sealed, "sealed", "0,100,10000", "files in the data that a refresh seals, one column each; a process that stays holds every tenth open for writing, 500 at most")
	f.BoolVar(&o.dropCache, "drop-caches", true, "drop this machine's page cache before each cold run of the command line")
	f.IntVar(&o.refreshes, "refreshes", 10, "refreshes per column")
	f.IntVar(&o.traced, "traced", 3, "further refreshes under strace and a D-Bus monitor, which only count; 0: none")
	f.StringVar(&o.data, "data", "1,1w,100", "MiB of unchanged data in 64 files, one column each; w: a service that writes to it all the time")
	f.StringVar(&o.others, "others", others, "other snaps installed, one column each with 1 MiB of data; also $BENCH_SNAPS; 0: no such column")
	f.StringVar(&o.workers, "workers", "0,20,500", "workers of a service under refresh-mode sigterm, one column each with 1 MiB of data; none: no such column")
	f.DurationVar(&o.budget, "budget", 4*time.Minute, "time for installing other snaps; when it is used up, those that there are do")
	f.BoolVar(&o.verbose, "v", false, "list what was synced and what was asked of systemd, per refresh")
	f.StringVar(&o.stage, "stage", "build/bench", "tree to put over the device's root")
	f.BoolVar(&o.keep, "keep", false, "leave the device running")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(o.parts, ",") {
		if !slices.Contains(append(allParts(), vmPart), part) {
			return nil, fmt.Errorf("cannot measure %q, only: %s", part, strings.Join(allParts(), ", "))
		}
	}
	if f.NArg() != 0 || o.refreshes < 1 || o.traced < 0 {
		return nil, fmt.Errorf("cannot understand %q, try: bench -h", args)
	}
	return &o, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args, work := os.Args[1:], onHost
	if len(args) > 0 && args[0] == "inside" {
		args, work = args[1:], inside
	}
	o, err := parse(args)
	if err == nil {
		err = work(ctx, o)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// onHost has this very program measure in a device of its own, and in a VM.
func onHost(ctx context.Context, o *options) error {
	printMachine()
	if o.has("refresh") || o.has("seal") || o.has("starts") || o.has("lists") || o.has("profiles") {
		if err := onDevice(ctx, o); err != nil {
			return err
		}
	}
	if o.has("profiles") {
		return inVM(ctx, o)
	}
	return nil
}

func onDevice(ctx context.Context, o *options) (err error) {
	const device = "bin/device"
	if _, err := os.Stat(filepath.Join(o.stage, "usr/lib/snapd/snapd")); err != nil {
		return fmt.Errorf("cannot find an installed tree, run: make bench (%w)", err)
	}
	name := fmt.Sprintf("bench-%d", os.Getpid())
	start := exec.CommandContext(ctx, device, "start", name, "--disk", "3G", "--overlay", o.stage, "--owner", strconv.Itoa(os.Getpid()))
	if out, err := start.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot boot a device: %w: %s", err, bytes.TrimSpace(out))
	}
	if o.keep {
		fmt.Printf("device %s stays: bin/device shell %s\n", name, name)
	} else {
		defer func() {
			if out, serr := exec.Command(device, "stop", "--force", name).CombinedOutput(); serr != nil {
				err = errors.Join(err, fmt.Errorf("cannot stop the device: %w: %s", serr, bytes.TrimSpace(out)))
			}
		}()
	}
	host, err := exec.CommandContext(ctx, device, "host", name).Output()
	if err != nil {
		return fmt.Errorf("cannot find the device's directory: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program := filepath.Join(strings.TrimSpace(string(host)), "bench")
	if out, err := exec.CommandContext(ctx, "cp", self, program).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot copy this program: %w: %s", err, out)
	}
	args := []string{"exec", "--group", "bench", name, "/srv/host/bench", "inside"}
	run := exec.Command(device, append(args, os.Args[1:]...)...)
	run.Env = append(os.Environ(), "GOMAXPROCS=")
	run.Stdout, run.Stderr = os.Stdout, os.Stderr
	if err := run.Start(); err != nil {
		return err
	}
	kill := context.AfterFunc(ctx, func() { exec.Command(device, "kill", name, "bench").Run() })
	defer kill()
	if err := run.Wait(); err != nil {
		return fmt.Errorf("cannot measure: %w", errors.Join(err, ctx.Err()))
	}
	return nil
}

func printMachine() {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load := loadAverage()
	fmt.Printf("%d CPUs, kernel %s, load average %.2f\n", runtime.NumCPU(), bytes.TrimSpace(release), load)
	if load > 1 {
		fmt.Println("WARNING: this machine is busy: look at counts and ratios, not at times")
	}
}

func loadAverage() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}
