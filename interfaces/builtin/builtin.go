// SPDX-License-Identifier: Apache-2.0

// Package builtin holds the interfaces that there are, one file each. What they
// give is written as AppArmor rules, capabilities and directives of units;
// every attribute that becomes part of one was looked at here before.
package builtin

import (
	"fmt"
	"path"
	"strings"

	"endured/interfaces"
	"endured/interfaces/apparmor"
	"endured/snap"
)

// All returns the interfaces.
func All() []interfaces.Interface {
	return []interfaces.Interface{
		content(),
		dbus(),
		hardwareObserve(),
		home(),
		kernelModuleObserve(),
		logObserve(),
		mountObserve(),
		network(),
		networkBind(),
		networkControl(),
		networkObserve(),
		processControl(),
		removableMedia(),
		sandboxManager(),
		systemObserve(),
	}
}

// gift is what the host's slot gives, whatever the attributes.
type gift struct {
	rules        []string
	capabilities []string
	seccomp      []string
	unsealable   string
}

// host is an interface whose only slot is the host's.
func host(name, summary string, auto interfaces.AutoPolicy, g gift) interfaces.Interface {
	return interfaces.Interface{
		Name: name, Summary: summary, Host: true, OnlySystem: true, Auto: auto,
		ForPlug: func(s *interfaces.Spec, _ *interfaces.Connection) error {
			s.Rules(g.rules...)
			s.Capabilities = append(s.Capabilities, g.capabilities...)
			s.Seccomp = append(s.Seccomp, g.seccomp...)
			if g.unsealable != "" {
				s.Unsealable = append(s.Unsealable, g.unsealable)
			}
			return nil
		},
	}
}

// oneOf reads a string attribute that has few values; unset is the first.
func oneOf(a snap.Attrs, key string, allowed ...string) (string, error) {
	v, err := a.String(key)
	if err != nil {
		return "", err
	}
	if v == "" {
		return allowed[0], nil
	}
	for _, w := range allowed {
		if v == w {
			return v, nil
		}
	}
	return "", fmt.Errorf("attribute %q is %q; use %s", key, v, strings.Join(allowed, " or "))
}

// cleanPath refuses what is not a plain path: of what would mean something to
// AppArmor or to a unit it holds nothing.
func cleanPath(key, p string) error {
	if p == "" || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") || len(p) > 1024 {
		return fmt.Errorf("attribute %q holds %q, which is not a clean path", key, p)
	}
	if err := apparmor.CheckValue(p); err != nil || strings.ContainsAny(p, ":%=~") {
		return fmt.Errorf("attribute %q holds %q: a path here may hold letters, digits and ._-+/", key, p)
	}
	return nil
}

// noAttrs refuses attributes that an interface does not have, so that nothing
// is asked for in vain.
func noAttrs(a snap.Attrs, known ...string) error {
	for key := range a {
		found := false
		for _, k := range known {
			found = found || k == key
		}
		if !found {
			return fmt.Errorf("attribute %q is not one of this interface, which has %s", key, strings.Join(known, ", "))
		}
	}
	return nil
}
