// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"endured/dirs"
	"endured/interfaces/apparmor"
)

// inVM has this very program measure refreshes in a VM, whose kernel has AppArmor.
func inVM(ctx context.Context, o *options) (err error) {
	const vm = "bin/vm"
	name := fmt.Sprintf("bench-%d", os.Getpid())
	run := func(args ...string) error {
		c := exec.CommandContext(ctx, vm, args...)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("cannot measure in a VM: vm %s: %w", args[0], err)
		}
		return nil
	}
	began := time.Now()
	if err := run("start", name, "--overlay", o.stage, "--owner", fmt.Sprint(os.Getpid())); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, exec.Command(vm, "stop", name).Run()) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	const program = "/root/bench"
	if err := run("put", name, self, program); err != nil {
		return err
	}
	if err := run("exec", name, "sh", "-c", "chmod 755 "+program+" && exec "+program+" inside -parts "+vmPart); err != nil {
		return err
	}
	fmt.Printf("The VM took %.0f s.\n", time.Since(began).Seconds())
	return nil
}

// vmColumn is what a VM measures: one refresh there costs as much as twenty.
func vmColumn() column {
	return column{title: "100 files, 10 held", mib: 1, files: 100, seals: true, held: 10}
}

// profiles prints what AppArmor costs in a refresh. In an emulated machine all
// is slow: what counts are the shares.
func (b *bench) profiles() {
	r := b.results[0]
	whole := r.change.median()
	fmt.Printf("\nAppArmor in a VM without KVM, 15 to 70 times as slow as this machine: ms (median / maximum of %d refreshes), share of the whole refresh\n", len(r.change))
	line := func(name string, s series) {
		if len(s) > 0 {
			fmt.Printf("  %-52s %8.1f / %8.1f   %5.1f %%\n", name, s.median(), s.max(), 100*s.median()/whole)
		}
	}
	line("whole refresh", r.change)
	line("task setup-profiles, nothing is disturbed by it", r.tasks["setup-profiles"])
	line("  apparmor_parser: profiles and their seal", r.compiled)
	line("  into the kernel", r.loaded)
	line("step seal of the switch, in the gap", r.steps["seal"])
	line("gap", r.gap)
}

// compileRuns is how often a snap's profiles are compiled.
const compileRuns = 10

// compile times the compiler alone, at this machine's speed: it needs no
// AppArmor in the kernel.
func (b *bench) compile(ctx context.Context) error {
	if len(b.results) == 0 {
		if _, err := b.install(ctx, column{}.snapFile(0)); err != nil {
			return err
		}
	}
	current, err := os.Readlink("/snap/" + snapName + "/current")
	if err != nil {
		return err
	}
	texts, err := filepath.Glob(filepath.Join(dirs.New("/").Profiles(), "snap."+snapName+".*."+current))
	if err != nil {
		return err
	}
	policy := map[string]string{}
	for _, t := range texts {
		text, err := os.ReadFile(t)
		if err != nil {
			return err
		}
		policy[filepath.Base(t)] = string(text)
	}
	work, err := os.MkdirTemp("", "bench-profiles-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	parser := apparmor.Offline(dirs.New("/"))
	if err := parser.Check(); err != nil {
		return fmt.Errorf("cannot compile profiles, run: make deps (%w)", err)
	}
	var took series
	size := 0
	for range compileRuns {
		began := time.Now()
		out, err := parser.Compile(ctx, filepath.Join(work, "compile"), policy)
		if err != nil {
			return err
		}
		size = 0
		for _, o := range out {
			size += len(o)
		}
		took = append(took, milliseconds(time.Since(began)))
	}
	fmt.Printf("\nCompiling %d profiles here, without a kernel to load them: %.1f / %.1f ms (median / maximum of %d), %d KiB\n",
		len(texts), took.median(), took.max(), compileRuns, size>>10)
	return nil
}
