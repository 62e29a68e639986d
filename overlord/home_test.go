// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// rootHolds compares a file below /root/snap/demo; "" is that there is none.
func (m *machine) rootHolds(name, want string) {
	m.t.Helper()
	got, _ := os.ReadFile(m.dirs.Under("/root/snap/demo/" + name))
	if string(got) != want {
		m.errorf("/root/snap/demo/%s holds %q, want %q", name, got, want)
	}
}

// TestHomeOfServices: HOME of services is there when they start, with what
// they had in it before, and goes when it is empty.
func TestHomeOfServices(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	home := m.dirs.Under("/root/snap/demo")
	missing := func(unit, rev string) error {
		if fi, err := os.Stat(filepath.Join(home, rev)); err != nil || fi.Mode().Perm() != 0o700 {
			return errors.New("it has no HOME")
		}
		return nil
	}
	m.hook(missing, nil, nil)
	m.done(m.install("v1"))
	m.holds(home, "common", "x1")
	write(t, home, "x1/notes", "one", 0o600)
	m.done(m.install("v2"))
	m.rootHolds("x2/notes", "one")
	write(t, home, "x2/notes", "two", 0o600)
	m.done(revert(m))
	m.rootHolds("x1/notes", "one")
	write(t, home, "x1/notes", "one again", 0o600)
	m.hook(func(unit, rev string) error {
		if unit == svc && rev == "x3" {
			return errors.New("no such command")
		}
		return nil
	}, nil, nil)
	m.failed(m.install("v3"))
	m.holds(home, "common", "x1", "x2") // x2's is root's by now
	m.hook(missing, nil, nil)
	m.done(m.install("v3"))
	m.rootHolds("x3/notes", "one again")
	m.done(removeAll(m))
	m.rootHolds("x3/notes", "one again")
	m.holds(home, "x1", "x2", "x3")

	// The next installation does not take them for its own.
	m.done(m.install("v1"))
	m.holds(home, "common", "x1", "x2", "x3", "x4")
	m.done(m.install("v2"))
	m.holds(home, "common", "x1", "x2", "x3", "x4", "x5")
	m.done(removeAll(m))

	// Nothing is left of what nobody used.
	if err := os.RemoveAll(filepath.Dir(home)); err != nil {
		t.Fatal(err)
	}
	m.done(m.install("v1"))
	m.done(m.install("v2"))
	m.done(removeAll(m))
	m.missing(filepath.Dir(home))
	m.hook(func(unit, rev string) error { return errors.New("no such command") }, nil, nil)
	m.failed(m.install("v1"))
	m.missing(filepath.Dir(home))
}
