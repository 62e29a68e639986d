// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// confiner confines as the snap says. What interfaces would give goes by the
// name of the app.
type confiner struct{ err error }

func (c confiner) Confinement(info *snap.Info, appOrHook string) (wrappers.Confinement, error) {
	out := wrappers.Confinement{Profile: "snap." + info.Name + "." + appOrHook + "." + info.Revision.String()}
	if info.Confinement != "strict" {
		return out, c.err
	}
	out.Strict, out.Capabilities = true, []string{"CAP_KILL", "CAP_CHOWN"}
	switch appOrHook {
	case "plugged":
		out.NoNewPrivileges = true
		out.Capabilities = append(out.Capabilities, "CAP_NET_ADMIN", "CAP_KILL")
		out.Syscalls = []string{"@keyring", "bpf"}
		out.Binds = []wrappers.Bind{
			{Source: "/var/snap/other/common/a", Within: "/var/snap/other/common", Target: "/snap/guarded/7/a", ReadOnly: true},
			{Source: "/b", Within: "/b", Target: "/c"},
		}
		out.Directives = []systemd.Option{{Name: "LimitNOFILE", Value: "1000"}}
		out.Run = []string{"/run/utmp", "/run/dbus", "/run/utmp"}
	case "manager":
		out.Delegate, out.Run = true, []string{"/run"}
		out.Syscalls = []string{"@mount"}
	}
	return out, c.err
}

func confinedOptions() wrappers.Options {
	o := testOptions()
	o.Confiner = confiner{}
	return o
}

func TestConfined(t *testing.T) {
	t.Parallel()
	for _, path := range cases(t, "confined") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			comment, parts := readCase(t, path)
			info := parse(t, parts[0].text, 7)
			set, err := wrappers.Units(info, confinedOptions())
			if err != nil {
				t.Fatal(err)
			}
			checkCase(t, path, comment, append(parts[:1:1], describeSet(info, set)...))
		})
	}
}

func TestConfineHook(t *testing.T) {
	t.Parallel()
	info := parse(t, "name: guarded\nversion: \"1\"\n", 7)
	opts, err := wrappers.ConfineOptions(info, "hook.configure", "snap.guarded.hook.configure-3.service", confinedOptions())
	if err != nil {
		t.Fatal(err)
	}
	if len(opts) == 0 || opts[0] != (systemd.Option{Name: "AppArmorProfile", Value: "snap.guarded.hook.configure.7"}) {
		t.Errorf("got %v", opts)
	}
}

// TestNotConfined fails rather than to write a unit that is not confined, or
// not as it should be.
func TestNotConfined(t *testing.T) {
	t.Parallel()
	info := parse(t, "name: guarded\nversion: \"1\"\napps:\n  svc: {command: bin/svc, daemon: simple}\n", 7)
	o := testOptions()
	o.Confiner = confiner{err: errors.New("no record")}
	if _, err := wrappers.Units(info, o); err == nil || !strings.Contains(err.Error(), `cannot tell how "guarded.svc" is confined: no record`) {
		t.Errorf("got %v", err)
	}
	for n, b := range []wrappers.Bind{
		{Source: "/a", Target: "/b"},
		{Source: "/a:/b", Target: "/c"}, {Source: "/a", Target: "/c /d"}, {Source: "a", Target: "/c"}, {Source: "/a/../b", Target: "/c"},
		{Source: "/a", Target: "/c\nExecStart=/x"}, {Source: "/a", Target: "/%h"}, {Source: "/$A", Target: "/b"}, {Source: "", Target: "/b"},
	} {
		if n > 0 {
			b.Within = "/"
		}
		o.Confiner = binder{b}
		if _, err := wrappers.Units(info, o); err == nil {
			t.Errorf("%+v is mounted", b)
		}
	}
}

type binder struct{ bind wrappers.Bind }

func (b binder) Confinement(*snap.Info, string) (wrappers.Confinement, error) {
	return wrappers.Confinement{Binds: []wrappers.Bind{b.bind}}, nil
}
