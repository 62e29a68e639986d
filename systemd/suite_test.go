// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"os"
	"testing"

	"endured/systemd"
	"endured/systemd/systemdtest"
)

func TestFakeSuite(t *testing.T) {
	t.Parallel()
	systemdtest.RunSuite(t, func(t *testing.T) systemdtest.Env {
		root := t.TempDir()
		f := systemdtest.New(root, systemdtest.Hooks{})
		return systemdtest.Env{M: f.Manager(t), Root: root, Fake: f}
	})
}

// TestRealSuite runs against the PID 1 of this system, over the system bus
// and over the private socket. It writes to /run and /etc: it is for a device
// that may be thrown away.
func TestRealSuite(t *testing.T) {
	if os.Getenv("SYSTEMD_SUITE_REAL") != "1" {
		t.Skip("SYSTEMD_SUITE_REAL=1 is not set")
	}
	for name, opts := range map[string]systemd.Options{
		"Bus":     {Private: "-"},
		"Private": {SystemBus: "-"},
	} {
		t.Run(name, func(t *testing.T) {
			systemdtest.RunSuite(t, func(t *testing.T) systemdtest.Env {
				m, err := systemd.Dial(t.Context(), opts)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { m.Close() })
				return systemdtest.Env{M: m, Root: "/"}
			})
		})
	}
}
