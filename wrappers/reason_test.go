// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"endured/dirs"
	"endured/snap"
	"endured/wrappers"
)

func TestStopReasonFile(t *testing.T) {
	t.Parallel()
	d := dirs.New(t.TempDir())
	const unit = "snap.one.svc.service"
	if err := wrappers.ForgetStopReason(d, unit); err != nil {
		t.Errorf("forgetting none: %v", err)
	}
	path := filepath.Join(d.Root(), "run/snapd/stop-reason", unit)
	for _, c := range []struct {
		reason wrappers.StopReason
		want   string
	}{
		{wrappers.StopReason{Reason: "refresh", From: -1, To: 12, Change: "7"},
			"SNAP_STOP_REASON=refresh\nSNAP_STOP_FROM_REVISION=x1\nSNAP_STOP_TO_REVISION=12\nSNAP_STOP_CHANGE_ID=7\n"},
		{wrappers.StopReason{Reason: "stop", From: 12, Change: "8"},
			"SNAP_STOP_REASON=stop\nSNAP_STOP_FROM_REVISION=12\nSNAP_STOP_TO_REVISION=\nSNAP_STOP_CHANGE_ID=8\n"},
	} {
		if err := wrappers.WriteStopReason(d, unit, c.reason); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); string(got) != c.want {
			t.Errorf("got %q, %v, want %q", got, err, c.want)
		}
	}
	if units, err := wrappers.StopReasons(d); err != nil || len(units) != 1 || units[0] != unit {
		t.Errorf("listed %q, %v", units, err)
	}
	if err := wrappers.ForgetStopReason(d, unit); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

// TestCeiling looks for the operator's ceiling in units and pins.
func TestCeiling(t *testing.T) {
	t.Parallel()
	service := func(timeout time.Duration) *snap.Info {
		return one(func(a *snap.App) { a.StopTimeout = timeout })
	}
	for _, c := range []struct {
		declared, ceiling time.Duration
		want              string
	}{
		{0, 0, "30s"}, {0, time.Minute, "30s"}, {0, 5 * time.Second, "5s"},
		{10 * time.Second, 5 * time.Second, "5s"}, {3 * time.Second, 5 * time.Second, "3s"}, {time.Hour, 1500 * time.Millisecond, "1500ms"},
	} {
		o := testOptions()
		o.StopTimeoutMax = func() time.Duration { return c.ceiling }
		set, err := wrappers.Units(service(c.declared), o)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(set.Files[0].Data) + string(set.Files[1].Data); !strings.Contains(text, "\nTimeoutStopSec="+c.want+"\n") {
			t.Errorf("%s under %s: want %s in\n%s", c.declared, c.ceiling, c.want, text)
		}
	}
	old, new := service(time.Minute), service(time.Second)
	new.Revision = 6
	o := testOptions()
	o.StopTimeoutMax = func() time.Duration { return 7 * time.Second }
	if pin, _, err := wrappers.Pin(old, new, "svc", o); err != nil || !strings.Contains(string(pin), "\nTimeoutStopSec=7s\n") {
		t.Errorf("pin: %v\n%s", err, pin)
	}
}
