// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"endured/tests/lib/machines"
	"endured/tests/vm/guest"
)

// image is a directory of the cache: root.ext4, vmlinuz, initrd, and two saved states. kernel.state waits in the
// ramdisk, before the disk is touched; booted.state has root.ext4 mounted as it is.
type image struct {
	dir string
	KHz int `json:"khz"` // of the time stamp counter, which its states know
}

const (
	prepareTimeout = 10 * time.Minute
	unusedFor      = 3 * 24 * time.Hour
	bootTimeout    = 3 * time.Minute
	resumeTimeout  = time.Minute
)

func (h *host) cmdPrepare(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("prepare", flag.ContinueOnError)
	again := f.Bool("again", false, "make the image anew")
	if err := f.Parse(args); err != nil {
		return err
	}
	i, err := h.ensureImage(ctx, *again)
	if err == nil {
		fmt.Println(i.dir)
	}
	return err
}

// ensureImage returns the image of the present recipe, made if it is not in the cache.
func (h *host) ensureImage(ctx context.Context, again bool) (*image, error) {
	treeKey, key, err := keys()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.cache, "image-"+key)
	khz := timestampRate()
	if i, err := openImage(dir, khz); err == nil && !again {
		return i, nil
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	if err := os.MkdirAll(h.cache, 0755); err != nil {
		return nil, err
	}
	unlock, err := machines.LockFile(ctx, filepath.Join(h.cache, "lock"))
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", h.cache, err)
	}
	defer unlock()
	// Somebody else may have made it meanwhile.
	if i, err := openImage(dir, khz); err == nil && !again {
		return i, nil
	}
	if err := checkStatic(); err != nil {
		return nil, err
	}
	start := time.Now()
	fmt.Fprintf(os.Stderr, "vm: making the image %s, once for this recipe\n", dir)
	if err := h.build(ctx, filepath.Join(h.cache, "tree-"+treeKey), dir, khz); err != nil {
		return nil, fmt.Errorf("cannot prepare VMs: %w", err)
	}
	fmt.Fprintf(os.Stderr, "vm: the image took %.0f s\n", time.Since(start).Seconds())
	h.prune(dir, filepath.Join(h.cache, "tree-"+treeKey))
	return openImage(dir, khz)
}

// openImage opens a finished image, and marks it as used.
func openImage(dir string, khz int) (*image, error) {
	data, err := os.ReadFile(filepath.Join(dir, "image.json"))
	if err != nil {
		return nil, err
	}
	i := &image{dir: dir}
	if err := json.Unmarshal(data, i); err != nil {
		return nil, err
	}
	// A measurement differs by less; another processor by more.
	if off := i.KHz - khz; off*500 > khz || -off*500 > khz {
		return nil, fmt.Errorf("cannot use %s: it is of a machine with %d kHz, this one has %d", dir, i.KHz, khz)
	}
	now := time.Now()
	os.Chtimes(filepath.Join(dir, "image.json"), now, now)
	return i, nil
}

// checkStatic refuses a program that the ramdisk could not run.
func checkStatic() error {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("cannot be the guest's agent: this program is linked dynamically, build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// build makes tree, unless it is there, and the image dir. Both appear when they are complete.
func (h *host) build(ctx context.Context, tree, dir string, khz int) error {
	for _, left := range []string{tree + ".new", dir + ".new", dir} {
		if err := os.RemoveAll(left); err != nil {
			return fmt.Errorf("cannot remove what an earlier run left: %w", err)
		}
	}
	if _, err := os.Stat(tree); err != nil {
		if err := buildTree(ctx, tree+".new"); err != nil {
			os.RemoveAll(tree + ".new")
			return err
		}
		if err := os.Rename(tree+".new", tree); err != nil {
			return err
		}
	}
	made := dir + ".new"
	if err := os.Mkdir(made, 0755); err != nil {
		return err
	}
	defer os.RemoveAll(made)
	if err := buildImage(ctx, tree, made); err != nil {
		return err
	}
	if err := h.saveStates(ctx, made, khz); err != nil {
		return err
	}
	data, err := json.Marshal(image{KHz: khz})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(made, "image.json"), data, 0644); err != nil {
		return err
	}
	now := time.Now()
	os.Chtimes(tree, now, now)
	return os.Rename(made, dir)
}

// saveStates boots the image once, and saves it twice on the way.
func (h *host) saveStates(ctx context.Context, dir string, khz int) (err error) {
	name := "prepare-" + strings.ToLower(filepath.Base(strings.TrimSuffix(dir, ".new")))
	unlock, err := h.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	r := &record{Record: machines.Record{Name: name, Created: time.Now()}, Image: dir}
	r.SetOwner(os.Getpid())
	if err := os.MkdirAll(h.Of(name), 0700); err != nil {
		return err
	}
	defer h.forget(context.WithoutCancel(ctx), r)
	product := filepath.Join(dir, "empty")
	if err := errors.Join(os.WriteFile(product, nil, 0644), os.Truncate(product, productSize)); err != nil {
		return err
	}
	s := shape{disk: dir + "/root.ext4", format: "raw", cache: "unsafe", product: product}
	kernel, booted := dir+"/kernel.state", dir+"/booted.state"
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	err = h.spawn(ctx, r, s, khz)
	if err == nil {
		err = h.awaitInit(ctx, r)
	}
	if err == nil {
		err = h.freeze(ctx, r, kernel)
	}
	s.state = kernel
	if err == nil {
		err = h.spawn(ctx, r, s, khz)
	}
	if err == nil {
		watched, done := h.watch(ctx, r)
		defer done()
		err = h.awaitBoot(watched, r)
	}
	if err == nil {
		err = execute(ctx, r.address(), &guest.Call{Argv: []string{"bash", "-c", settle}}, streams{out: os.Stderr, err: os.Stderr})
	}
	if err == nil {
		err = h.freeze(ctx, r, booted)
	}
	if err != nil {
		return fmt.Errorf("cannot boot the image: %w%s", err, h.lastWords(name))
	}
	return nil
}

// settle is what a guest does before its state is saved: a program is fast when it is in memory already, and what is
// free should be small.
const settle = `cat /usr/bin/{bash,systemctl,journalctl,mksquashfs,awk,tar} /usr/sbin/apparmor_parser /usr/lib/x86_64-linux-gnu/*.so* >/dev/null
sync; echo 1 >/proc/sys/vm/compact_memory`

// awaitInit returns when the guest waits in its ramdisk.
func (h *host) awaitInit(ctx context.Context, r *record) error {
	ctx, done := h.watch(ctx, r)
	defer done()
	return awaitGuest(ctx, r.address(), guest.Hello, "init")
}

// awaitBoot tells a guest that waits in its ramdisk to go on, and returns when its systemd has started everything.
func (h *host) awaitBoot(ctx context.Context, r *record) error {
	if err := bootGuest(ctx, r.address()); err != nil {
		return err
	}
	var state strings.Builder
	err := execute(ctx, r.address(), &guest.Call{Argv: []string{"systemctl", "is-system-running", "--wait"}},
		streams{out: &state, err: &state})
	var exit *machines.ExitError
	if errors.As(err, &exit) && strings.TrimSpace(state.String()) == "degraded" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: the system is %s", err, strings.TrimSpace(state.String()))
	}
	return nil
}

// freeze saves the guest's state and ends QEMU.
func (h *host) freeze(ctx context.Context, r *record, state string) error {
	ctx, done := h.watch(ctx, r)
	defer done()
	m, err := openMonitor(ctx, h.Of(r.Name, "qmp"))
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.saveState(ctx, state); err != nil {
		return err
	}
	unix.Kill(r.PID, unix.SIGTERM) // in order: what its cache of the disk holds is written
	return machines.AwaitExit(context.WithoutCancel(ctx), r.PID)
}

// prune removes images and trees that nobody has used for long.
func (h *host) prune(keep ...string) {
	for pattern, stamp := range map[string]string{"image-*": "image.json", "tree-*": "."} {
		found, _ := filepath.Glob(filepath.Join(h.cache, pattern))
		for _, dir := range found {
			info, err := os.Stat(filepath.Join(dir, stamp))
			if dir != keep[0] && dir != keep[1] && err == nil && time.Since(info.ModTime()) > unusedFor {
				os.RemoveAll(dir)
			}
		}
	}
}
