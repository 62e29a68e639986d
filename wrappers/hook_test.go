// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"endured/snap"
	"endured/wrappers"
)

func TestHookUnit(t *testing.T) {
	t.Parallel()
	info := parse(t, `
name: demo
version: "1"
environment: {A: "of $SNAP_NAME"}
hooks: {post-refresh: {command-chain: [bin/wrap], environment: {B: two}}}
`, -7)
	file, err := wrappers.HookUnit(info.Hooks["post-refresh"], wrappers.HookRun{
		ID: "42", Timeout: 90 * time.Second, Grace: 5 * time.Second, Env: []snap.EnvVar{{Name: "SNAP_HOOK_EVENT", Value: "refresh"}},
	}, testOptions())
	if err != nil || file.Path != "/run/systemd/system/snap.demo.hook.post-refresh-42.service" {
		t.Fatal(file.Path, err)
	}
	lines := strings.Split(string(file.Data), "\n")
	for _, want := range []string{
		"Requires=snap-demo-x7.mount", "After=snap-demo-x7.mount",
		"Type=oneshot", "RemainAfterExit=yes", "TimeoutStartSec=90s", "TimeoutStopSec=5s",
		"ExecStart=/snap/demo/x7/bin/wrap /snap/demo/x7/meta/hooks/post-refresh",
		"WorkingDirectory=/var/snap/demo/x7", "ReadWritePaths=/var/snap/demo/x7 /var/snap/demo/common",
		`Environment=SNAP_REVISION=x7`, `Environment="A=of demo"`, `Environment=B=two`, `Environment=SNAP_HOOK_EVENT=refresh`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no %s in\n%s", want, file.Data)
		}
	}
	// the gate and its mark are for services: a hook runs while they are closed
	if strings.Contains(string(file.Data), "gate") || strings.Contains(string(file.Data), "Condition") || strings.Contains(string(file.Data), "Restart=") {
		t.Errorf("%s", file.Data)
	}
}

func TestHookUnitName(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{
		"snap.demo.hook.service", "snap.demo.hook-3.service", "snap.demo.hook.web-x.service", "snap.demo.hook.web-3.scope",
		"x.snap.demo.hook.web-3.service", "snap.demo.web.service", "snap.demo.hook.a.b-3.service",
	} {
		if s, h, id, ok := wrappers.ParseHookUnitName(unit); ok {
			t.Error(unit, s, h, id)
		}
	}
	s, h, id, ok := wrappers.ParseHookUnitName(wrappers.HookUnitName("a-b", "post-refresh", "17"))
	if !ok || s != "a-b" || h != "post-refresh" || id != "17" {
		t.Error(s, h, id, ok)
	}
}
