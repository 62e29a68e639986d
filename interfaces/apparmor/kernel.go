// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"endured/dirs"
)

// Kernel is AppArmor in the running kernel.
type Kernel interface {
	// Check returns why no profile can be loaded, nil if they can be.
	Check() error
	// Features identifies what a compiled profile depends on.
	Features() (string, error)
	// Replace loads compiled profiles, all or none, in the place of those with
	// the same names. Processes that carry one of them are under the new one at once.
	Replace(compiled []byte) error
	// Remove drops a profile by name. Processes that carry it become unconfined.
	Remove(label string) error
	// Loaded lists the names of all profiles.
	Loaded() ([]string, error)
	// Carriers lists the processes that carry a label, by label, for those that
	// any process carries.
	Carriers() (map[string][]int, error)
}

// ErrOff is why nothing is enforced on a host whose kernel has AppArmor off.
var ErrOff = errors.New("the kernel has AppArmor off")

// host is the kernel's AppArmor as the files below /sys and /proc show it.
type host struct {
	enabled, control, proc string
}

// HostKernel is AppArmor of the running kernel, seen below a root directory.
func HostKernel(d dirs.Dirs) Kernel {
	return &host{
		enabled: d.Under("/sys/module/apparmor/parameters/enabled"),
		control: d.Under("/sys/kernel/security/apparmor"),
		proc:    d.Under("/proc"),
	}
}

func (h *host) Check() error {
	on, err := os.ReadFile(h.enabled)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasPrefix(string(on), "Y") {
		return ErrOff
	}
	if err != nil {
		return fmt.Errorf("cannot tell whether AppArmor is on: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(h.control, ".replace"), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot load AppArmor profiles here: %w", err)
	}
	return f.Close()
}

// Features hashes the names and contents of the kernel's list of features.
func (h *host) Features() (string, error) {
	sum := sha256.New()
	root := filepath.Join(h.control, "features")
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %q\n", strings.TrimPrefix(p, root), data)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("cannot read the features of AppArmor: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (h *host) Replace(compiled []byte) error { return h.write(".replace", compiled) }

func (h *host) Remove(label string) error {
	err := h.write(".remove", []byte(label))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// write hands one policy to the kernel, which wants it in a single write.
func (h *host) write(name string, data []byte) error {
	f, err := os.OpenFile(filepath.Join(h.control, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Loaded reads lines such as "snap.foo.svc.7 (enforce)".
func (h *host) Loaded() ([]string, error) {
	f, err := os.Open(filepath.Join(h.control, "profiles"))
	if err != nil {
		return nil, fmt.Errorf("cannot list the loaded AppArmor profiles: %w", err)
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		out = append(out, withoutMode(lines.Text()))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot list the loaded AppArmor profiles: %w", err)
	}
	sort.Strings(out)
	return out, nil
}

func (h *host) Carriers() (map[string][]int, error) {
	entries, err := os.ReadDir(h.proc)
	if err != nil {
		return nil, fmt.Errorf("cannot look for labelled processes: %w", err)
	}
	out := map[string][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, err := h.current(e.Name())
		if err != nil {
			continue // gone, or a zombie, or another module's
		}
		// a stack of labels is written a//&b
		for _, l := range strings.Split(withoutMode(strings.TrimRight(string(raw), "\n\x00")), "//&") {
			out[l] = append(out[l], pid)
		}
	}
	return out, nil
}

// current reads a process's label; where other modules share attr/current,
// AppArmor's own file is asked first.
func (h *host) current(pid string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(h.proc, pid, "attr/apparmor/current"))
	if errors.Is(err, fs.ErrNotExist) {
		return os.ReadFile(filepath.Join(h.proc, pid, "attr/current"))
	}
	return raw, err
}

// withoutMode drops the " (enforce)" that follows a label.
func withoutMode(s string) string {
	if at := strings.LastIndex(s, " ("); at >= 0 && strings.HasSuffix(s, ")") {
		return s[:at]
	}
	return s
}
