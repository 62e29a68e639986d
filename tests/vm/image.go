// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"endured/tests/vm/guest"
)

// buildTree makes dir/root, a minimal Debian, and dir/kernel, the kernel's package unpacked.
func buildTree(ctx context.Context, dir string) error {
	root, kernel := filepath.Join(dir, "root"), filepath.Join(dir, "kernel")
	// With apt's settings of the new root, so that the kernel comes from where everything else does.
	fetch := `cd "$KERNEL_DIR" && name=$(apt-cache depends ` + kernelPackage + ` | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1) && ` +
		`[ -n "$name" ] && apt-get download "$name" >&2`
	args := []string{"--variant=custom", "--mode=root", "--quiet", "--include=" + strings.Join(packages, ","),
		`--aptopt=Acquire::Languages "none"`, "--aptopt=APT::Sandbox::User \"root\"", "--dpkgopt=force-unsafe-io",
		"--customize-hook=" + fetch}
	for _, p := range []string{"doc", "man", "locale", "info", "lintian", "bug"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+p+"/*")
	}
	if err := os.MkdirAll(kernel, 0755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, release, root)...)
	cmd.Env = append(os.Environ(), "KERNEL_DIR="+kernel)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make a root from Debian's packages: %w\n%s", err, lastLines(out, 20))
	}
	debs, _ := filepath.Glob(filepath.Join(kernel, "*.deb"))
	if len(debs) != 1 {
		return fmt.Errorf("cannot find the kernel's package: %d in %s", len(debs), kernel)
	}
	if out, err := exec.CommandContext(ctx, "dpkg", "-x", debs[0], kernel).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot unpack the kernel: %w: %s", err, bytes.TrimSpace(out))
	}
	return os.Remove(debs[0])
}

// buildImage makes dir/root.ext4, dir/vmlinuz and dir/initrd from a tree.
func buildImage(ctx context.Context, tree, dir string) error {
	images, _ := filepath.Glob(filepath.Join(tree, "kernel/boot/vmlinuz-*"))
	if len(images) != 1 {
		return fmt.Errorf("cannot find the kernel in %s", tree)
	}
	version := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	if err := os.Link(images[0], filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	modules := filepath.Join(root, "usr/lib/modules")
	for _, args := range [][]string{
		{"cp", "-a", filepath.Join(tree, "root"), root},
		{"mkdir", "-p", modules},
		{"cp", "-a", filepath.Join(tree, "kernel/lib/modules", version), modules},
		{"depmod", "-b", root, version},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot make the root: %s: %w: %s", args[0], err, bytes.TrimSpace(out))
		}
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := buildRamdisk(filepath.Join(dir, "initrd"), filepath.Join(modules, version), program); err != nil {
		return err
	}
	if err := furnishRoot(root, program); err != nil {
		return err
	}
	image := filepath.Join(dir, "root.ext4")
	mkfs := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", "root", "-d", root,
		"-E", "lazy_itable_init=1,root_owner=0:0", image, fmt.Sprintf("%dk", diskSize>>10))
	if out, err := mkfs.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make the image: %w: %s", err, bytes.TrimSpace(out))
	}
	return os.RemoveAll(root)
}

// furnishRoot adds the agent, settings and masks to a root.
func furnishRoot(root string, program []byte) error {
	write := func(path string, data []byte, mode os.FileMode) error {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0755); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.WriteFile(path, data, mode)
	}
	if err := write(agentPath, program, 0755); err != nil {
		return err
	}
	for path, text := range guestFiles {
		if err := write(path, []byte(text), 0644); err != nil {
			return err
		}
	}
	units := filepath.Join(root, "etc/systemd/system")
	links := map[string]string{
		"default.target":                        "/lib/systemd/system/multi-user.target",
		"sysinit.target.wants/vm-agent.service": "/etc/systemd/system/vm-agent.service",
	}
	for _, u := range maskedUnits {
		links[u] = "/dev/null"
	}
	generators, err := os.ReadDir(filepath.Join(root, "usr/lib/systemd/system-generators"))
	if err != nil {
		return err
	}
	for _, g := range generators {
		links["../system-generators/"+g.Name()] = "/dev/null"
	}
	for name, to := range links {
		path := filepath.Join(units, name)
		if err := os.MkdirAll(filepath.Dir(path), 0755); err != nil {
			return err
		}
		os.Remove(path)
		if err := os.Symlink(to, path); err != nil {
			return err
		}
	}
	return nil
}

// buildRamdisk makes the initial ramdisk: this program as init, and the modules that it loads.
func buildRamdisk(path, modules string, program []byte) error {
	var b bytes.Buffer
	a := &archive{w: &b}
	dir := strings.TrimPrefix(guest.Modules, "/")
	for _, d := range []string{"dev", "proc", "sys", "new", dir} {
		a.add(d, modeDir, nil)
	}
	a.add(strings.TrimPrefix(guest.InitPath, "/"), modeFile, program)
	there := make(map[string]bool)
	for list, names := range map[string][]string{guest.ModulesEarly: earlyModules, guest.ModulesLate: lateModules} {
		files, err := withDependencies(modules, names)
		if err != nil {
			return err
		}
		var order strings.Builder
		for _, f := range files {
			fmt.Fprintln(&order, filepath.Base(f))
			data, err := os.ReadFile(filepath.Join(modules, f))
			if err != nil {
				return err
			}
			if !there[f] {
				a.add(dir+"/"+filepath.Base(f), modeFile, data)
			}
			there[f] = true
		}
		a.add(dir+"/"+list, modeFile, []byte(order.String()))
	}
	if err := a.close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0644)
}

// withDependencies returns the files of modules and of what they need, in the order of loading. What is built into the
// kernel has no file.
func withDependencies(modules string, names []string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(modules, "modules.dep"))
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(modules, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	needs, files := make(map[string][]string), make(map[string]string)
	for line := range strings.Lines(string(data)) {
		file, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		needs[file] = strings.Fields(deps)
		files[moduleName(file)] = file
	}
	for line := range strings.Lines(string(builtin)) {
		files[moduleName(strings.TrimSpace(line))] = ""
	}
	var order []string
	seen := map[string]bool{"": true}
	var add func(file string)
	add = func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		for _, dep := range needs[file] {
			add(dep)
		}
		order = append(order, file)
	}
	for _, n := range names {
		file, ok := files[n]
		if !ok {
			return nil, fmt.Errorf("cannot find the kernel module %s", n)
		}
		add(file)
	}
	return order, nil
}

// moduleName is how the kernel calls a module: "virtio_blk" of "kernel/drivers/block/virtio-blk.ko".
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

func lastLines(data []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}
