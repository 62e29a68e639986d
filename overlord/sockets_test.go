// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"endured/snap"
)

// add packs one more version of the sample snap.
func (l *library) add(t *testing.T, version, apps string) {
	t.Helper()
	tree := filepath.Join(l.dir, version)
	write(t, tree, "meta/snap.yaml", fmt.Sprintf(yamlHead, version)+apps, 0o644)
	write(t, tree, "bin/run", "#!/bin/sh\nexec sleep 1000\n", 0o755)
	if _, err := snap.Pack(t.Context(), tree, l.dir, snap.PackOptions{Filename: version + ".snap", Compression: "gzip"}); err != nil {
		t.Fatal(err)
	}
	sum, _, err := snap.HashFile(t.Context(), l.file(version))
	if err != nil {
		t.Fatal(err)
	}
	l.trees[sum] = tree
}

// TestSocketIsRenamed: what listened under the old name must not go on to hold
// the address that the new one wants, in either direction.
func TestSocketIsRenamed(t *testing.T) {
	t.Parallel()
	const renamed = "snap.demo.web.www.socket"
	lib := newLibrary(t)
	lib.add(t, "v6", strings.Replace(yamlWeb, "http:", "www:", 1))
	m := newMachine(t, lib)
	m.done(m.install("v4"))
	for _, step := range []struct {
		do          func(m *machine) (string, error)
		opens, shut string
	}{{install("v6"), renamed, socket}, {revert, socket, renamed}} {
		m.fake.ResetCalls()
		m.done(step.do(m))
		if st := m.status(step.opens); st.ActiveState != "active" || st.UnitFileState != "enabled" {
			t.Errorf("%s is %s, %s", step.opens, st.ActiveState, st.UnitFileState)
		}
		if st := m.status(step.shut); st.ActiveState != "inactive" || st.LoadState != "not-found" {
			t.Errorf("%s is %s, %s", step.shut, st.ActiveState, st.LoadState)
		}
		calls := strings.Join(m.fake.Calls(), "\n")
		if stop, start := strings.Index(calls, "StopUnit "+step.shut), strings.Index(calls, "StartUnit "+step.opens); stop < 0 || start < stop {
			t.Errorf("%s is not closed before %s opens:\n%s", step.shut, step.opens, calls)
		}
	}
	m.done(m.remove())
	m.sound()
}
