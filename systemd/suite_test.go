// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
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
		"Bus":     {},
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

// TestRealQuoting has PID 1 read what the quoting functions write.
func TestRealQuoting(t *testing.T) {
	if os.Getenv("SYSTEMD_SUITE_REAL") != "1" {
		t.Skip("SYSTEMD_SUITE_REAL=1 is not set")
	}
	m, err := systemd.Dial(t.Context(), systemd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	odd := []string{"", " ", ";", `\;`, `\`, `\n`, `"`, "'", `a"b'c\`, "$HOME", "${HOME}", "$$", "%n", "%%", "100%", "ü€😀", "a\tb",
		"#x", "-x", "|", "&", "*", "~", "=", "A=B", `\x41`, "a  b", "\u2028"}
	args := append([]string{"/bin/sh", "-c", "while :; do sleep 1000; done", "sh"}, odd...)
	start, err := systemd.QuoteExec(args)
	if err != nil {
		t.Fatal(err)
	}
	service := []systemd.Option{{Name: "Type", Value: "exec"}, {Name: "ExecStart", Value: start}, {Name: "KillMode", Value: "control-group"}}
	for i, v := range odd {
		q, err := systemd.QuoteEnv(fmt.Sprintf("ODD%d", i), v)
		if err != nil {
			t.Fatal(err)
		}
		service = append(service, systemd.Option{Name: "Environment", Value: q})
	}
	data, err := systemd.Unit{
		{Name: "Unit", Options: []systemd.Option{{Name: "Description", Value: systemd.QuoteValue(`50% of "it" \ $x`)}}},
		{Name: "Service", Options: service},
	}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	const unit = "endured-quoting.service"
	if err := os.WriteFile("/run/systemd/system/"+unit, data, 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/run/systemd/system/" + unit)
	if err := m.Run(t.Context(), "start", unit, "replace"); err != nil {
		t.Fatal(err)
	}
	defer m.Run(t.Context(), "stop", unit, "replace")
	st, err := m.Status(t.Context(), unit)
	if err != nil || st[0].Description != `50% of "it" \ $x` {
		t.Fatalf("%+v, %v", st, err)
	}
	read := func(file string) []string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", st[0].MainPID, file))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	}
	if got := read("cmdline"); !slices.Equal(got, args) {
		t.Errorf("arguments %q, want %q", got, args)
	}
	env := read("environ")
	for i, v := range odd {
		if want := fmt.Sprintf("ODD%d=%s", i, v); !slices.Contains(env, want) {
			t.Errorf("no %q in %q", want, env)
		}
	}
}
