// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCheckTimer(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{
		"10:00", "9:05", "9:00-17:00", "9:00-17:00/3", "23:00~01:00", "0:00-24:00/24", "mon", "mon-fri", "mon,wed,fri", "mon1", "fri5,23:00",
		"mon1-wed1", "fri-mon,10:00", "mon,10:00,,fri,15:00", "10:00,14:00", "sat,sun,9:00-11:00,13:00~15:00/2,,mon2",
		"mon-fri2", "sun2-mon", "0:00-24:00/1440", "24:00", "23:00-22:59/8634", "10:00-10:01/60",
	} {
		if err := CheckTimer(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for bad, want := range map[string]string{
		"":                                  "must not be empty",
		"10:00,mon":                         `the day "mon" comes after a time`,
		"10":                                `"10" is neither a day nor a time`,
		"24:01":                             `"24:01" is not a time of day`,
		"9:60":                              `"9:60" is not a time of day`,
		"9:00-9:00":                         `the span "9:00-9:00" is empty`,
		"9:00/2":                            `"9:00/2" is neither a day nor a time`,
		"9:00-10:00/0":                      `"9:00-10:00/0" must be split into at least one part`,
		"mon6":                              `"mon6" is neither a day nor a time`,
		"monday":                            `"monday" is neither a day nor a time`,
		"mon3-fri2":                         `in "mon3-fri2" the days are of different weeks; give the week of one of them`,
		"24:00-0:00":                        `the span "24:00-0:00" is empty`,
		"10:00-10:01/61":                    `"10:00-10:01/61" is split into parts shorter than a second`,
		"0:00-24:00/11001":                  "it has too many parts",
		"mon2-wed,0:00-24:00/4000":          "it has too many parts",
		"mon,,":                             `"" is neither a day nor a time`,
		"mon, 10:00":                        `" 10:00" is neither a day nor a time`,
		"*-*-* 10:00":                       "is neither a day nor a time",
		"10:00\n[Unit]":                     "is neither a day nor a time",
		"9:00-25:00":                        `"25:00" is not a time of day`,
		strings.Repeat("mon,", 300) + "mon": "is too long for a timer",
	} {
		if err := CheckTimer(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAssumes(t *testing.T) {
	t.Parallel()
	for feature, want := range map[string]bool{
		"common-data-dir": true, "snap-env": true, "command-chain": true, "app-refresh-mode": true,
		"snapd2.57": true, "snapd2.57.6": true, "snapd2": true, "snapd2.8": true, "snapd1.99": true,
		"snapd2.58": false, "snapd3": false, "snapd": false, "snapd2.x": false, "kernel-assets": false, "snapd99999.1": false,
	} {
		if got := canAssume(feature); got != want {
			t.Errorf("%s: %v", feature, got)
		}
	}
}

func TestSupported(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"", "base: none\n", "base: bare\n", "confinement: classic\n", "epoch: 1*\n", "hooks: {}\n", "hooks: {install: , gate-auto-refresh: }\n", "layout: {}\n",
		"layout:\n", "components: {}\n", "assumes: [snapd2.55]\n", "type: app\n", "architectures: [riscv64]\n"} {
		i, err := Parse([]byte(head + ok))
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Supported(); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for bad, want := range map[string]string{
		"base: core22":                    `base: base snaps are not supported yet, found "core22"; leave base out or use none or bare`,
		"type: kernel":                    `type: "kernel" is not supported; only snaps of type app are`,
		"epoch: 1":                        "epoch: 1 cannot read the data of epoch 0, and there is no stepping from epoch to epoch yet",
		"hooks: {prepare-device: }":       "hooks.prepare-device: this hook is not run, and the snap may rely on it; there is install, configure, default-configure, pre-refresh, post-refresh, remove, check-health or gate-auto-refresh",
		"layout: {/etc/x: {type: tmpfs}}": "layout: layouts are not supported yet",
		"layout: x":                       "layout: layouts are not supported yet",
		"system-usernames: {a: shared}":   "system-usernames: system users for snaps are not supported yet",
		"components: {a: {type: x}}":      "components: components are not supported yet",
		"assumes: [snapd2.61]":            `assumes: "snapd2.61" is not available; there is app-refresh-mode, command-chain, common-data-dir or snap-env, and snapd up to 2.57`,
		"apps: {a: {command: x, daemon: simple, daemon-scope: user}}": "apps.a.daemon-scope: services of users are not supported yet",
	} {
		i, err := Parse([]byte(head + bad))
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Supported(); err == nil || err.Error() != `cannot use snap "demo" here: `+want {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestEpochCanRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reader, writer string
		want           bool
	}{{"0", "0", true}, {"1", "0", false}, {"1*", "0", true}, {"0", "1*", false}, {"1*", "1", true}, {"{read: [0, 2], write: [2]}", "{read: [1, 2], write: [1, 2]}", true}} {
		epoch := func(s string) Epoch {
			i, err := Parse([]byte(head + "epoch: " + s))
			if err != nil {
				t.Fatal(err)
			}
			if i.Epoch.String() != strings.ReplaceAll(s, ", ", ",") && i.Epoch.String() != strings.NewReplacer("0, 2", "0,2", "1, 2", "1,2").Replace(s) {
				t.Errorf("%s is written as %s", s, i.Epoch)
			}
			return i.Epoch
		}
		if got := epoch(c.reader).CanRead(epoch(c.writer)); got != c.want {
			t.Errorf("%s reads %s: %v", c.reader, c.writer, got)
		}
	}
}

func TestRunsOn(t *testing.T) {
	t.Parallel()
	i := &Info{Architectures: []string{"arm64", "armhf"}}
	if i.RunsOn("amd64") || !i.RunsOn("armhf") || !(&Info{Architectures: []string{"all"}}).RunsOn("amd64") || !(&Info{}).RunsOn("amd64") {
		t.Error("wrong")
	}
	if HostArch() == "" {
		t.Error("no architecture")
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"ab", "a1", "1a", "a-b-c", "0-0-a", strings.Repeat("a", 40)} {
		if err := CheckName(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a", "-a", "a-", "a--b", "A", "aB", "a_b", "a.b", "a/b", "..", "0-0", "ä-b", "a\n", strings.Repeat("a", 41)} {
		if CheckName(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestRevision(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Revision{"7": 7, "x1": -1, "x12": -12} {
		r, err := ParseRevision(s)
		if err != nil || r != want || r.String() != s || r.Local() != strings.HasPrefix(s, "x") || r.Unset() {
			t.Error(s, r, err)
		}
		b, err := json.Marshal(map[Revision]Revision{r: r})
		var back map[Revision]Revision
		if err != nil || json.Unmarshal(b, &back) != nil || back[r] != r {
			t.Errorf("%s becomes %s, then %v", s, b, back)
		}
	}
	for _, bad := range []string{"", "x", "0", "x0", "-1", "x-1", "+1", "01", "1x", "y1", "99999999999999999999"} {
		if r, err := ParseRevision(bad); err == nil {
			t.Errorf("%q is %s", bad, r)
		}
	}
	var r Revision
	if err := json.Unmarshal([]byte(`"unset"`), &r); err != nil || !r.Unset() {
		t.Error(r, err)
	}
	if err := json.Unmarshal([]byte(`7`), &r); err == nil {
		t.Error("a number is taken")
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"layouts": "layout", "refresh_mode": "refresh-mode", "refresh-moode": "refresh-mode", "refesh-mod": "refresh-mode",
		"apps1": "apps", "app": "apps", "hat": "", "nmae": "", "versoin": "version", "x": "", strings.Repeat("x", 1000): "",
	} {
		if got := nearest(key, append([]string{"refresh-mode"}, topKeys...)); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
}
