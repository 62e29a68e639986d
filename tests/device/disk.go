// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountImage shows the directories snap and snapd of the disk at /var/snap and /var/lib/snapd under root.
// The loop device lets go of the image when its last mount is gone.
func mountImage(image, fs, root string) error {
	dev, loop, err := attachLoop(image)
	if err != nil {
		return err
	}
	defer loop.Close()
	at := filepath.Join(root, ".old")
	if err := mount(dev, at, fs, unix.MS_NODEV, ""); err != nil {
		return err
	}
	for dir, target := range map[string]string{"snap": "/var/snap", "snapd": "/var/lib/snapd"} {
		from := filepath.Join(at, dir)
		if err := os.MkdirAll(from, 0755); err != nil {
			return err
		}
		if err := mount(from, filepath.Join(root, target), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", at, err)
	}
	return nil
}

func attachLoop(image string) (dev string, loop *os.File, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", nil, fmt.Errorf("cannot get a loop device: %w", err)
	}
	defer control.Close()
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return "", nil, fmt.Errorf("cannot open the image: %w", err)
	}
	defer file.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", nil, fmt.Errorf("cannot get a loop device: %w", err)
		}
		dev := fmt.Sprintf("/dev/loop%d", n)
		loop, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			return "", nil, fmt.Errorf("cannot open a loop device: %w", err)
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		copy(config.Info.File_name[:], image)
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return dev, loop, nil
		}
		loop.Close()
		// Somebody else was faster with this one.
		if !errors.Is(err, unix.EBUSY) {
			return "", nil, fmt.Errorf("cannot set up %s: %w", dev, err)
		}
	}
}

// loopsOf returns the loop devices whose backing file lies at or under path.
func loopsOf(path string) []string {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	var loops []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		name := strings.TrimSuffix(strings.TrimSpace(string(data)), " (deleted)")
		if err == nil && (name == path || strings.HasPrefix(name, path+"/")) {
			loops = append(loops, "/dev/"+strings.Split(f, "/")[3])
		}
	}
	return loops
}

// copyTree copies a tree over the root, following the root's own directory links (/lib, /bin) as an unpacked package would.
// from is what the tree is called in errors, at where it is.
func copyTree(from, at string) error {
	err := filepath.Walk(at, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == at {
			return err
		}
		target := strings.TrimPrefix(path, at)
		switch info.Mode().Type() {
		case os.ModeDir:
			if there, err := os.Stat(target); err == nil && there.IsDir() {
				return nil
			}
			return os.Mkdir(target, info.Mode().Perm())
		case os.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			os.Remove(target)
			return os.Symlink(to, target)
		case 0:
			return copyFile(path, target, info.Mode().Perm())
		}
		return fmt.Errorf("cannot copy %s: neither file, directory nor link", path)
	})
	if err != nil {
		return fmt.Errorf("cannot copy %s over the root: %w", from, err)
	}
	return nil
}

func copyFile(from, to string, mode os.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	os.Remove(to)
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Chmod(mode), dst.Close())
}
