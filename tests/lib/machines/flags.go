// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Strings is a flag that may be given several times.
type Strings []string

func (s *Strings) String() string     { return strings.Join(*s, " ") }
func (s *Strings) Set(v string) error { *s = append(*s, v); return nil }

// ParseNamed parses a NAME with flags before and after it; what follows the flags is returned. kind is what the error
// calls a machine.
func ParseNamed(kind string, f *flag.FlagSet, args []string) (name string, rest []string, err error) {
	if err := f.Parse(args); err != nil {
		return "", nil, err
	}
	if f.NArg() == 0 {
		return "", nil, fmt.Errorf("cannot %s a %s without its name", f.Name(), kind)
	}
	name = f.Arg(0)
	if err := f.Parse(f.Args()[1:]); err != nil {
		return "", nil, err
	}
	return name, f.Args(), nil
}

// ParseSize returns the bytes that "300", "4K", "512M" or "2G" mean.
func ParseSize(s string) (int64, error) {
	unit := int64(1)
	switch {
	case strings.HasSuffix(s, "K"):
		unit = 1 << 10
	case strings.HasSuffix(s, "M"):
		unit = 1 << 20
	case strings.HasSuffix(s, "G"):
		unit = 1 << 30
	}
	n, err := strconv.ParseInt(strings.TrimRight(s, "KMG"), 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("cannot use %q as a size", s)
	}
	return n * unit, nil
}

// ProjectAround returns the directory at or above the current one that holds go.mod, or "".
func ProjectAround() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return ""
}
