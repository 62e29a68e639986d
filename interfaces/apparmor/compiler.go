// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"endured/dirs"
)

// Compiler turns the text of profiles into what the kernel loads.
type Compiler interface {
	// Check returns why nothing can be compiled, nil if it can be.
	Check() error
	// ID identifies what the result depends on besides the text and the kernel.
	ID() string
	// Compile compiles the profiles of one text in one go.
	Compile(ctx context.Context, policy string) ([]byte, error)
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

func (p *parser) Compile(ctx context.Context, policy string) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	args := []string{"--skip-kernel-load", "--skip-cache", "--skip-read-cache", "--quiet", "--stdout"}
	if p.abi != "" {
		args = append(args, "--policy-features", p.abi)
	}
	if p.kernel != "" {
		args = append(args, "--kernel-features", p.kernel)
	}
	c := exec.CommandContext(ctx, p.program, args...)
	c.Stdin = strings.NewReader(policy)
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("cannot compile AppArmor profiles: apparmor_parser: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("cannot compile AppArmor profiles: apparmor_parser gave nothing: %s", strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}
