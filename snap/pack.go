// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// PackOptions say how to pack. The zero value packs with xz under snapd's name
// for the file.
type PackOptions struct {
	Filename    string // of the result; NAME_VERSION_ARCH.snap if empty
	Compression string // "xz" (if empty), "lzo", "zstd" or "gzip"
}

// PackError says that mksquashfs failed, or is not there.
type PackError struct {
	Output string // what it printed, the last lines
	Err    error
}

func (e *PackError) Error() string {
	if e.Output == "" {
		return "cannot pack: mksquashfs: " + e.Err.Error()
	}
	return "cannot pack: mksquashfs: " + e.Err.Error() + ": " + e.Output
}

// Unwrap returns the error of running mksquashfs.
func (e *PackError) Unwrap() error { return e.Err }

// CheckSkeleton validates the unpacked snap in dir as Pack would: snap.yaml is
// valid, this version can do what it needs, and its commands exist. The Info
// carries the notes for the author.
func CheckSkeleton(dir string) (*Info, error) {
	data, err := readYAML(dir)
	if err != nil {
		return nil, err
	}
	info, err := Parse(data)
	if err != nil {
		return nil, err
	}
	meta, err := listMeta(dirTree(dir))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", dir, err)
	}
	info.AddHooks(hookNames(meta)...)
	if err := info.Supported(); err != nil {
		return nil, err
	}
	if err := checkCommands(info, dirTree(dir)); err != nil {
		return info, err
	}
	list, err := SpecialsIn(dir)
	if err != nil {
		return nil, err
	}
	return info, noDevices(list)
}

// FileName is the name that snapd gives to the packed snap.
func (i *Info) FileName() string {
	arch := "multi"
	if len(i.Architectures) == 1 {
		arch = i.Architectures[0]
	}
	return i.Name + "_" + i.Version + "_" + arch + ".snap"
}

// Pack checks the unpacked snap in dir and packs it into outDir ("" is the
// working directory), replacing a file of that name. It returns the path of
// the result. The same tree gives the same bytes. The error is what
// CheckSkeleton returns, or a *PackError.
func Pack(ctx context.Context, dir, outDir string, o PackOptions) (string, error) {
	info, err := CheckSkeleton(dir)
	if err != nil {
		return "", err
	}
	comp := o.Compression
	if comp == "" {
		comp = "xz"
	}
	if !slices.Contains([]string{"xz", "lzo", "zstd", "gzip"}, comp) {
		return "", fmt.Errorf("cannot pack with compression %q: use xz, lzo, zstd or gzip", comp)
	}
	name := o.Filename
	if name == "" {
		name = info.FileName()
	}
	out := filepath.Join(outDir, name)
	if filepath.IsAbs(name) {
		out = name
	}
	tmp, err := partial(out)
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp)
	if err := squash(ctx, dir, tmp, out, comp); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, out); err != nil {
		return "", fmt.Errorf("cannot pack: %w", err)
	}
	return out, nil
}

// partial makes an empty file beside out.
func partial(out string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+".*.partial")
	if err != nil {
		return "", fmt.Errorf("cannot pack: %w", err)
	}
	defer f.Close()
	if err := f.Chmod(0o644); err != nil {
		return "", fmt.Errorf("cannot pack: %w", err)
	}
	return f.Name(), nil
}

// squash runs mksquashfs. The result may lie inside dir; it does not become
// part of itself.
func squash(ctx context.Context, dir, tmp, out, comp string) error {
	args := []string{dir, tmp, "-noappend", "-comp", comp, "-no-fragments", "-no-xattrs", "-all-root", "-root-mode", "0755",
		"-no-progress", "-quiet"}
	if os.Getenv("SOURCE_DATE_EPOCH") == "" {
		// mksquashfs refuses the option together with the variable, which has the same effect.
		args = append(args, "-mkfs-time", "0")
	}
	args = append(args, "-e")
	for _, f := range []string{tmp, out} {
		if rel, ok := within(dir, f); ok {
			args = append(args, rel)
		}
	}
	if args[len(args)-1] == "-e" {
		args = args[:len(args)-1]
	}
	cmd := exec.CommandContext(ctx, "mksquashfs", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("cannot pack: %w", ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return &PackError{Err: errors.New("not found; install squashfs-tools")}
	}
	return &PackError{Output: lastLines(output.String(), 5), Err: err}
}

// within returns the path of file relative to dir if it lies inside.
func within(dir, file string) (string, bool) {
	d, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	f, err := filepath.Abs(file)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(d, f)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
