// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"endured/tests/vm/guest"
)

// packProduct makes the image that a guest sees as /dev/vdb: the project without what is built, but for bin, at
// project; the overlays at overlay-0, overlay-1, ….
func packProduct(ctx context.Context, path string, o startOptions) error {
	dir := path + ".tree"
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0755); err != nil {
		return err
	}
	trees := map[string]string{}
	if o.project != "" {
		trees["project"] = o.project
	}
	for i, d := range o.overlays {
		trees["overlay-"+strconv.Itoa(i)] = d
	}
	for name, from := range trees {
		if info, err := os.Stat(from); err != nil || !info.IsDir() {
			return fmt.Errorf("cannot use %s: not a directory", from)
		}
		to := filepath.Join(dir, name)
		if err := os.Mkdir(to, 0755); err != nil {
			return err
		}
		script := `tar -C "$1" --exclude=./.git --exclude=./build -c . | tar -x -C "$2"`
		if out, err := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", script, "pack", from, to).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot copy %s: %w: %s", from, err, bytes.TrimSpace(out))
		}
	}
	args := []string{dir, path, "-noappend", "-no-progress", "-quiet", "-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-all-root"}
	if out, err := exec.CommandContext(ctx, "mksquashfs", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot pack the product: %w: %s", err, bytes.TrimSpace(out))
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > productSize {
		return fmt.Errorf("cannot give the VM %d MiB of project and overlays: %d is the most", info.Size()>>20, productSize>>20)
	}
	return os.Truncate(path, productSize)
}

// showProduct mounts the project, copy-on-write, and has a new guest take over the overlays.
func (h *host) showProduct(ctx context.Context, r *record, fresh bool) error {
	script := `set -e
disk=/dev/$(cd /sys/block && grep -lx product */serial | cut -d / -f 1)
mkdir -p /run/product /run/project/upper /run/project/work /srv/endured /srv/host
mount -t squashfs -o ro "$disk" /run/product
if [ -d /run/product/project ]; then
	mount -t overlay -o lowerdir=/run/product/project,upperdir=/run/project/upper,workdir=/run/project/work overlay /srv/endured
fi
`
	if fresh {
		script += `for d in /run/product/overlay-*; do
	[ ! -d "$d" ] || tar -C "$d" -c . | tar -x -C / --keep-directory-symlink --no-overwrite-dir
done
`
	}
	var out bytes.Buffer
	err := execute(ctx, r.address(), &guest.Call{Argv: []string{"bash", "-o", "pipefail", "-c", script}}, streams{out: &out, err: &out})
	if err != nil {
		return errors.Join(fmt.Errorf("cannot show the product to the guest: %w", err), errors.New(out.String()))
	}
	return nil
}
