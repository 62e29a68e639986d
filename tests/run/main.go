// SPDX-License-Identifier: Apache-2.0

// Command run executes the project's spread-format suites on private devices and VMs.
//
// It reads the same spread.yaml and task.yaml files as upstream spread, which
// cannot be had from the registries. Each worker serves one backend, "device"
// or "vm", and the other when its own has no more jobs: it boots a machine with
// the program of that name in bin, runs the project's prepare once in it, then
// suites and tasks as spread does. Two variables of a suite or task mean
// something more here, and nothing to spread:
//
//	HOST_SIDE: 1     its scripts run on the host, with $DEVICE (the backend's
//	                 program), $DEVICE_NAME (the first letters of the names it
//	                 may use), $TASK_DIR and $PROJECT
//	FRESH_DEVICE: 1  it gets a machine that nothing ran in before
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	good, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "run: %v\n", err)
	}
	if !good || err != nil {
		os.Exit(1)
	}
}

type options struct {
	list, verbose, keep bool
	workers, vms        int
	repeat              int
	retry               int
	backend, overlay    string
	filters             []string
}

func parse(args []string) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.BoolVar(&o.list, "list", false, "list the jobs and exit")
	f.BoolVar(&o.verbose, "v", false, "show the output of every job")
	f.BoolVar(&o.keep, "keep", false, "leave the machine of a failed job running")
	f.IntVar(&o.workers, "j", 2, "number of workers that begin with a device; those that have no more to do help the others")
	f.IntVar(&o.vms, "vms", 1, "number of workers that begin with a VM, beside them")
	f.IntVar(&o.repeat, "repeat", 1, "run each job this often")
	f.IntVar(&o.retry, "retry", 0, "run failed jobs once more, and call those that pass then flaky, if no more than this many failed")
	f.StringVar(&o.backend, "backend", "", "backend of spread.yaml to use: device or vm (default both)")
	f.StringVar(&o.overlay, "overlay", "", "tree that is copied over the root of each machine (default build/stage, if it is there)")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: run [FLAG]… [FILTER]…\n\nA FILTER is a task's name, the beginning of one, or a pattern.")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.filters = f.Args()
	if o.workers < 1 || o.vms < 1 || o.repeat < 1 {
		return nil, fmt.Errorf("cannot work with %d and %d workers and %d repetitions", o.workers, o.vms, o.repeat)
	}
	return o, nil
}

func run(ctx context.Context, args []string) (good bool, err error) {
	o, err := parse(args)
	if err == flag.ErrHelp {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	root, err := projectRoot()
	if err != nil {
		return false, err
	}
	all, err := readJobs(root, o.backend)
	if err != nil {
		return false, err
	}
	jobs := choose(all, o.filters)
	if o.list {
		for _, j := range jobs {
			fmt.Println(j.name)
		}
		return true, nil
	}
	r := &runner{root: root, keep: o.keep, verbose: o.verbose, report: &report{verbose: o.verbose}}
	for n := range o.repeat {
		for _, j := range jobs {
			c := *j
			if o.repeat > 1 {
				c.name += "#" + strconv.Itoa(n+1)
			}
			r.jobs = append(r.jobs, &c)
		}
	}
	if err := r.furnish(ctx, o); err != nil {
		return false, err
	}
	r.run(ctx, map[string]int{"device": o.workers, vmBackend: o.vms})
	if o.retry > 0 && ctx.Err() == nil {
		// alone: most of what fails once does so because the machine was busy
		r.jobs = r.report.again(o.retry)
		for _, name := range r.backends() {
			r.run(ctx, map[string]int{name: 1})
		}
	}
	good = r.report.finish()
	if ctx.Err() != nil {
		return false, fmt.Errorf("cannot go on: interrupted")
	}
	return good, nil
}

// run works through the jobs of some backends; so many workers begin with each, and help the others at the end.
func (r *runner) run(ctx context.Context, workers map[string]int) {
	names := slices.DeleteFunc(r.backends(), func(name string) bool { return workers[name] == 0 })
	var group sync.WaitGroup
	var begin []func()
	for i, name := range names {
		var others []kind
		for _, other := range slices.Delete(slices.Clone(names), i, i+1) {
			others = append(others, r.kind(other))
		}
		jobs := 0
		for _, j := range r.jobs {
			if j.backendName == name {
				jobs++
			}
		}
		for range min(workers[name], jobs) {
			r.workers++
			w := &worker{runner: r, kind: r.kind(name), id: r.workers}
			begin = append(begin, func() { w.work(ctx, others...) })
		}
	}
	for _, work := range begin {
		group.Go(work)
	}
	group.Wait()
}

// backends lists the backends of the jobs.
func (r *runner) backends() []string {
	var names []string
	for _, j := range r.jobs {
		if !slices.Contains(names, j.backendName) {
			names = append(names, j.backendName)
		}
	}
	slices.Sort(names)
	return names
}

// choose returns the jobs that a filter takes, or without filters all that are not manual.
func choose(all []*job, filters []string) []*job {
	return slices.DeleteFunc(all, func(j *job) bool {
		if len(filters) == 0 {
			return j.task.Manual || j.suite.Manual
		}
		return !slices.ContainsFunc(filters, j.matches)
	})
}

// projectRoot is the directory at or above the current one that has spread.yaml.
func projectRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "spread.yaml")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", fmt.Errorf("cannot find spread.yaml in %s or above", start)
		}
	}
}

// furnish builds what the jobs need, sets what the programs of machines read, and removes what killed runs left.
func (r *runner) furnish(ctx context.Context, o *options) error {
	if err := r.makeLogs(filepath.Join(r.root, "build", "logs")); err != nil {
		return err
	}
	programs := map[string]string{"fixture": "./tests/lib/fixture"}
	for _, name := range r.backends() {
		programs[name] = "./tests/" + name
	}
	for name, pkg := range programs {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(r.root, "bin", name), pkg)
		cmd.Dir = r.root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build %s: %w\n%s", name, err, out)
		}
	}
	os.Setenv("DEVICE_OWNER", strconv.Itoa(os.Getpid()))
	if _, set := os.LookupEnv("VM_NICE"); !set && len(r.backends()) > 1 {
		// Suites on devices measure time; those in VMs only take it.
		os.Setenv("VM_NICE", "5")
	}
	stage := filepath.Join(r.root, "build", "stage")
	if _, err := os.Stat(stage); o.overlay == "" && err == nil {
		o.overlay = stage
	}
	if o.overlay != "" {
		// A copy, so that a build during the run changes nothing of it.
		overlay := filepath.Join(r.logs, "stage")
		if out, err := exec.CommandContext(ctx, "cp", "-aT", o.overlay, overlay).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot copy the overlay: %w: %s", err, out)
		}
		os.Setenv("DEVICE_OVERLAYS", overlay)
	}
	for _, name := range r.backends() {
		cmd := exec.CommandContext(ctx, r.kind(name).program, "clean")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("cannot clean up after an earlier run: %w", err)
		}
	}
	return nil
}

// makeLogs makes a directory of this run's own, and removes those of runs that have ended.
func (r *runner) makeLogs(dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "[0-9]*"))
	if err != nil {
		return err
	}
	for _, d := range old {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		if err := os.RemoveAll(d); err != nil {
			return fmt.Errorf("cannot remove old logs: %w", err)
		}
	}
	r.logs = filepath.Join(dir, strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(r.logs, 0755); err != nil {
		return fmt.Errorf("cannot make the directory of logs: %w", err)
	}
	return nil
}
