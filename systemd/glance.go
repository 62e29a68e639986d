// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Glance is Status for lists of many units. It costs PID 1 one walk over what
// it has in memory, and some single values of the services that are at work,
// where a Status makes it load what is not in memory and look through all
// enablement links (16 ms for each unit among 500). What is set: Name, the
// three states, and Description, JobID and JobType of what is in memory;
// MainPID, InvocationID and ControlGroup of services at work. LoadState is ""
// for what is not in memory: it does not run, and may have a file or none.
// Whether a unit is enabled says Enabled.
func (m *Manager) Glance(ctx context.Context, units ...string) ([]UnitStatus, error) {
	if len(units) == 0 {
		return nil, nil
	}
	loaded, err := m.ListUnits(ctx, among(units))
	if err != nil {
		return nil, err
	}
	known := make(map[string]UnitStatus, len(loaded))
	for _, st := range loaded {
		known[st.Name] = st
	}
	out := make([]UnitStatus, len(units))
	var working []*UnitStatus
	for i, u := range units {
		st, there := known[u]
		if !there {
			st = UnitStatus{Name: u, ActiveState: "inactive", SubState: "dead"}
		}
		out[i] = st
		if idle := st.ActiveState == "inactive" || st.ActiveState == "failed"; !idle && strings.HasSuffix(u, ".service") {
			working = append(working, &out[i])
		}
	}
	for part := range slices.Chunk(working, atOnce) {
		if err == nil {
			err = m.again(ctx, func(l *link) error { return l.details(ctx, part) })
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the state of %s: %w", list(units), err)
	}
	return out, nil
}

// among is a pattern that matches all units, and more: PID 1 would compare each
// of its units with each of many.
func among(units []string) string {
	if len(units) == 1 {
		return units[0] // no name holds what a pattern has a meaning for
	}
	first, last := slices.Min(units), slices.Max(units)
	n := 0
	for n < min(len(first), len(last)) && first[n] == last[n] {
		n++
	}
	return first[:n] + "*"
}

// atOnce is of how many services details may ask. dbus-daemon refuses a call of
// a connection that has 128 unanswered ones, and others call meanwhile.
const atOnce = 32

// details reads what a list of units does not say of services. All questions
// are asked before the first answer is awaited. One that went away in between
// keeps what it has.
func (l *link) details(ctx context.Context, services []*UnitStatus) error {
	l.asking.Lock()
	defer l.asking.Unlock()
	type question struct {
		st   *UnitStatus
		name string
		call *dbus.Call
	}
	var asked []question
	done := make(chan *dbus.Call, 3*len(services))
	for _, st := range services {
		o := l.bus.Object(busName, unitPath(st.Name))
		for _, q := range []struct{ ifc, name string }{{serviceIfc, "MainPID"}, {unitIfc, "InvocationID"}, {serviceIfc, "ControlGroup"}} {
			asked = append(asked, question{st, q.name, o.GoWithContext(ctx, propertiesIfc+".Get", 0, done, q.ifc, q.name)})
		}
	}
	for range asked {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, q := range asked {
		var v dbus.Variant
		err := convert(q.call.Store(&v))
		var e *Error
		switch {
		case errors.As(err, &e) && !e.nobody() && e.Name != "org.freedesktop.DBus.Error.LimitsExceeded":
			continue
		case err != nil:
			return err
		}
		p := map[string]dbus.Variant{q.name: v}
		switch got := decodeStatus("", p); q.name {
		case "MainPID":
			q.st.MainPID = got.MainPID
		case "InvocationID":
			q.st.InvocationID = got.InvocationID
		case "ControlGroup":
			q.st.ControlGroup = got.ControlGroup
		}
	}
	return nil
}

// Enabled lists the units that are enabled for all boots, from the links that
// Enable makes below root, without asking PID 1: it would read all of them
// again for each unit. A masked unit is not enabled.
func Enabled(root string) (map[string]bool, error) {
	etc := filepath.Join(root, "/etc/systemd/system")
	out := map[string]bool{}
	for _, pattern := range []string{"*.wants", "*.requires"} {
		dirs, err := filepath.Glob(filepath.Join(etc, pattern))
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			links, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("cannot see which units are enabled: %w", err)
			}
			for _, l := range links {
				out[l.Name()] = true
			}
		}
	}
	for _, dir := range []string{etc, filepath.Join(root, "/run/systemd/system")} {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("cannot see which units are masked: %w", err)
		}
		for _, f := range files {
			if f.Type()&os.ModeSymlink == 0 || !out[f.Name()] {
				continue
			}
			if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && to == os.DevNull {
				delete(out, f.Name())
			}
		}
	}
	return out, nil
}
