// SPDX-License-Identifier: Apache-2.0

package osutil

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of a mountinfo file (proc(5)), paths unescaped.
type Mount struct {
	ID, Parent   int
	Major, Minor uint32
	// Root is the directory of the file system that is mounted, Point where,
	// as the process sees it.
	Root, Point string
	// Options are those of the mount ("ro,nosuid"), SuperOptions those of the
	// file system.
	Options, SuperOptions string
	// Tags are propagation fields such as "shared:1", "master:2".
	Tags           []string
	FSType, Source string
}

// Dev is the device as in st_dev.
func (m Mount) Dev() uint64 { return unix.Mkdev(m.Major, m.Minor) }

// Mounts is what the process sees mounted; pid 0 is the calling process.
func Mounts(pid int) ([]Mount, error) {
	path := "/proc/self/mountinfo"
	if pid != 0 {
		path = procPath(pid, "mountinfo")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot list mounts: %w", err)
	}
	defer f.Close()
	return ParseMounts(f)
}

// ParseMounts reads a mountinfo file.
func ParseMounts(r io.Reader) ([]Mount, error) {
	var mounts []Mount
	sc := bufio.NewScanner(r)
	// An overlay's options list every layer.
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		m, err := parseMount(sc.Text())
		if err != nil {
			return nil, fmt.Errorf("cannot list mounts: %w", err)
		}
		mounts = append(mounts, m)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("cannot list mounts: %w", err)
	}
	return mounts, nil
}

func parseMount(line string) (Mount, error) {
	bad := func() (Mount, error) { return Mount{}, fmt.Errorf("unexpected mountinfo line %q", line) }
	// The two halves are parted by a lone hyphen; the first has optional fields.
	before, after, ok := strings.Cut(line, " - ")
	head, tail := strings.Split(before, " "), strings.Split(after, " ")
	if !ok || len(head) < 6 || len(tail) < 2 {
		return bad()
	}
	var m Mount
	major, minor, _ := strings.Cut(head[2], ":")
	ma, err3 := strconv.ParseUint(major, 10, 32)
	mi, err4 := strconv.ParseUint(minor, 10, 32)
	var err1, err2 error
	m.ID, err1 = strconv.Atoi(head[0])
	m.Parent, err2 = strconv.Atoi(head[1])
	if errors.Join(err1, err2, err3, err4) != nil {
		return bad()
	}
	m.Major, m.Minor = uint32(ma), uint32(mi)
	m.Root, m.Point, m.Options = unescape(head[3]), unescape(head[4]), head[5]
	m.Tags = head[6:]
	m.FSType, m.Source = tail[0], unescape(tail[1])
	if len(tail) > 2 {
		m.SuperOptions = tail[2]
	}
	return m, nil
}

// unescape undoes the kernel's \NNN (octal) for space, tab, newline, backslash.
func unescape(s string) string {
	if !strings.ContainsRune(s, '\\') {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// MountedAt is the mount at exactly this absolute path, the topmost if several
// are stacked, in the calling process's namespace; nil if there is none.
func MountedAt(path string) (*Mount, error) {
	mounts, err := Mounts(0)
	if err != nil {
		return nil, err
	}
	return topmost(mounts, filepath.Clean(path)), nil
}

func topmost(mounts []Mount, point string) *Mount {
	covered := make(map[int]bool)
	for _, m := range mounts {
		if m.Point == point {
			covered[m.Parent] = true
		}
	}
	var top *Mount
	for i, m := range mounts {
		if m.Point == point && !covered[m.ID] {
			top = &mounts[i]
		}
	}
	return top
}
