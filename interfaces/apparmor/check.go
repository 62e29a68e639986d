// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"errors"
	"fmt"
	"strings"

	"endured/snap"
)

// CheckValue refuses text that must not become part of a rule: it would end the
// rule, begin another, or match more than itself. Allowed are letters, digits
// and the characters "._-+:/=~%" and space is not among them.
func CheckValue(s string) error {
	if s == "" {
		return errors.New("cannot use an empty value in an AppArmor rule")
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-+:/=~%", r):
		default:
			return fmt.Errorf("cannot use %q in an AppArmor rule: it holds %q, allowed are letters, digits and ._-+:/=~%%", s, r)
		}
	}
	return nil
}

func checkNames(snapName, appOrHook string) error {
	if err := snap.CheckName(snapName); err != nil {
		return err
	}
	name := strings.TrimPrefix(appOrHook, "hook.")
	if name == "" || strings.Trim(name, "-") != name {
		return fmt.Errorf("%q is not the name of an app or hook", name)
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-') {
			return fmt.Errorf("%q is not the name of an app or hook: it holds %q", name, r)
		}
	}
	return nil
}

func (s *Set) check(p *Profile) error {
	if (p.App == "") == (p.Hook == "") {
		return errors.New("it is of neither an app nor a hook, or of both")
	}
	if err := checkNames(s.Snap, p.Name()); err != nil {
		return err
	}
	if s.Revision.Unset() {
		return errors.New("its revision is not set")
	}
	switch s.Mode {
	case Enforce, Complain, Unconfined:
	default:
		return fmt.Errorf("mode %q is not known", s.Mode)
	}
	for _, r := range p.Rules {
		if err := checkRule(r); err != nil {
			return fmt.Errorf("rule %q: %w", r, err)
		}
	}
	for _, c := range p.Capabilities {
		name, ok := strings.CutPrefix(c, "CAP_")
		if !ok || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
			return fmt.Errorf("capability %q: want a name such as CAP_NET_ADMIN", c)
		}
	}
	return nil
}

// checkRule refuses what is not exactly one rule of the kinds that interfaces
// have a use for. It is the second check: values were looked at where they
// entered, and here nothing may end the profile or begin another.
func checkRule(rule string) error {
	r := strings.TrimSpace(rule)
	if !strings.HasSuffix(r, ",") || r == "," {
		return errors.New("it does not end with a comma")
	}
	depth := 0
	for _, c := range r {
		switch {
		case c < ' ' || c == 0x7f:
			return fmt.Errorf("it holds the control character %q", c)
		case c == '#' || c == ';':
			return fmt.Errorf("it holds %q", c)
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
		if depth < 0 {
			return errors.New("it closes a brace that it did not open")
		}
	}
	if depth != 0 || strings.Contains(r, " {") {
		return errors.New("its braces are not those of an alternation")
	}
	if n := strings.Count(r, `"`); n%2 != 0 {
		return errors.New("its quotes are not balanced")
	}
	words := strings.Fields(r)
	for len(words) > 1 && (words[0] == "audit" || words[0] == "deny" || words[0] == "allow" || words[0] == "owner") {
		words = words[1:]
	}
	switch first := strings.TrimSuffix(words[0], ","); first {
	case "network", "capability", "signal", "ptrace", "unix", "dbus", "mount", "umount", "remount", "pivot_root", "userns", "mqueue", "io_uring", "file":
	case "change_profile":
		return nil
	default:
		if !strings.HasPrefix(first, "/") && !strings.HasPrefix(first, `"/`) && !strings.HasPrefix(first, "@{") && !strings.HasPrefix(first, "{") {
			return fmt.Errorf("rules that begin with %q are not known", first)
		}
	}
	return nil
}
