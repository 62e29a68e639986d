// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"endured/dirs"
)

// Compiler turns the text of profiles into what the kernel loads.
type Compiler interface {
	// Check returns why nothing can be compiled, nil if it can be.
	Check() error
	// ID identifies what the result depends on besides the text and the kernel.
	ID() string
	// Compile compiles texts of one profile each, all in one go, and returns the
	// results under the texts' names, which are names of files. What does not
	// compile is missing, and the error says why; the others are there all the
	// same. dir is a directory to work in: it is made, and is gone afterwards.
	Compile(ctx context.Context, dir string, texts map[string]string) (map[string][]byte, error)
}

// ErrNoParser is why nothing is enforced on a host without apparmor_parser.
var ErrNoParser = errors.New("apparmor_parser is not installed (package apparmor)")

// parser is the host's apparmor_parser.
type parser struct {
	program string // "" if there is none
	abi     string // file with the features that profiles are written for, "" if there is none
	kernel  string // file with the kernel's features instead of the running one's
}

// abiFile lists the classes of access that the rules here speak of. A kernel
// that mediates more does not refuse what they do not mention.
const abiFile = "/etc/apparmor.d/abi/3.0"

// HostParser is apparmor_parser as it is found below a root directory.
func HostParser(d dirs.Dirs) Compiler {
	p := &parser{}
	for _, path := range []string{"/sbin/apparmor_parser", "/usr/sbin/apparmor_parser", "/usr/local/sbin/apparmor_parser"} {
		if fi, err := os.Stat(d.Under(path)); err == nil && fi.Mode().IsRegular() {
			p.program = d.Under(path)
			break
		}
	}
	if _, err := os.Stat(d.Under(abiFile)); err == nil {
		p.abi = d.Under(abiFile)
	}
	return p
}

// Offline makes a Compiler that asks no kernel: it compiles for one with all
// that the ABI names. It is for tests.
func Offline(d dirs.Dirs) Compiler {
	p, _ := HostParser(d).(*parser)
	p.kernel = p.abi
	return p
}

func (p *parser) Check() error {
	if p.program == "" {
		return ErrNoParser
	}
	return nil
}

// ID is the program's size and time of change: another version has others.
func (p *parser) ID() string {
	sum := sha256.New()
	for _, path := range []string{p.program, p.abi} {
		if fi, err := os.Stat(path); err == nil {
			fmt.Fprintf(sum, "%s %d %d\n", path, fi.Size(), fi.ModTime().UnixNano())
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Compile has the parser write its cache, which holds a file for each text. The
// parser works on several at a time.
func (p *parser) Compile(ctx context.Context, dir string, texts map[string]string) (map[string][]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil { // of an attempt that was cut off
		return nil, fmt.Errorf("cannot compile AppArmor profiles: %w", err)
	}
	defer os.RemoveAll(dir)
	in, out := filepath.Join(dir, "texts"), filepath.Join(dir, "compiled")
	args := p.args(out)
	for _, d := range []string{in, out} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("cannot compile AppArmor profiles: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		path := filepath.Join(in, name)
		if err := os.WriteFile(path, []byte(texts[name]), 0o600); err != nil {
			return nil, fmt.Errorf("cannot compile AppArmor profiles: %w", err)
		}
		args = append(args, path)
	}
	c := exec.CommandContext(ctx, p.program, args...)
	complaint, failed := c.CombinedOutput()
	// below a directory that is named for the kernel's features
	files, err := filepath.Glob(filepath.Join(out, "*", "*"))
	if err != nil {
		return nil, fmt.Errorf("cannot compile AppArmor profiles: %w", err)
	}
	compiled := map[string][]byte{}
	for _, f := range files {
		if _, asked := texts[filepath.Base(f)]; !asked {
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("cannot compile AppArmor profiles: %w", err)
		}
		if len(data) > 0 {
			compiled[filepath.Base(f)] = data
		}
	}
	said := strings.TrimSpace(strings.ReplaceAll(string(complaint), in+"/", ""))
	switch {
	case failed != nil:
		return compiled, fmt.Errorf("cannot compile AppArmor profiles: apparmor_parser: %w: %s", failed, said)
	case len(compiled) < len(texts):
		return compiled, fmt.Errorf("cannot compile AppArmor profiles: apparmor_parser gave %d of %d: %s", len(compiled), len(texts), said)
	}
	return compiled, nil
}

// args are the parser's, but for the texts. Simplifying expressions takes it
// longer than it saves, and gives the same result.
func (p *parser) args(out string) []string {
	args := []string{"--skip-kernel-load", "--skip-read-cache", "--write-cache", "--cache-loc", out, "--quiet", "--Optimize=no-expr-simplify"}
	if p.abi != "" {
		args = append(args, "--policy-features", p.abi)
	}
	if p.kernel != "" {
		args = append(args, "--kernel-features", p.kernel)
	}
	return args
}
