// SPDX-License-Identifier: Apache-2.0

package hookstate

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"endured/overlord/lifecycle"
	"endured/snap"
	"endured/systemd"
)

// TestCallerOf reads cgroups as they are, and as somebody would like them to be.
func TestCallerOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cgroup, root string
		want         *Caller
	}{
		{"/system.slice/snap.web.srv.service", "", &Caller{Snap: "web", App: "srv"}},
		{"/system.slice/snap.web.srv.service/workers/snap.db.srv.service", "", &Caller{Snap: "web", App: "srv"}},
		{"/system.slice/snap.web.hook.post-refresh-17.service", "", &Caller{Snap: "web", Hook: "post-refresh", Task: "17"}},
		{"/system.slice/snap.web.srv-rx1-12.1.scope", "", &Caller{Snap: "web", App: "srv"}},
		{"/system.slice/snap.web.cli-01234567-89ab-cdef-0123-456789abcdef.scope", "", &Caller{Snap: "web", App: "cli"}},
		{"/system.slice/system-x.slice/snap.web.srv.service", "", &Caller{Snap: "web", App: "srv"}},
		{"/machine/a/system.slice/snap.web.srv.service", "/machine/a", &Caller{Snap: "web", App: "srv"}},
		{"/machine/ab/system.slice/snap.web.srv.service", "/machine/a", nil},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/snap.web.srv.service", "", nil},
		{"/system.slice/other.service/snap.web.srv.service", "", nil},
		{"/system.slice/docker-1.scope/system.slice/snap.web.srv.service", "", nil},
		{"/system.slice/not-snap.web.srv.service", "", nil},
		{"/system.slice/snap.web.srv.service.d", "", nil},
		{"/system.slice/snap.web.service", "", nil},
		{"/snap.slice", "", nil}, {"/", "", nil}, {"", "", nil}, {"/..", "", nil},
	} {
		if got := callerOf(unitIn(c.cgroup, c.root)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.cgroup, got, c.want)
		}
	}
	for own, want := range map[string]string{"/init.scope": "", "/machine/a/init.scope": "/machine/a", "/": "", "/x": ""} {
		if got := rootOf(func(int) (string, error) { return own, nil }); got != want {
			t.Errorf("PID 1 in %s: root %q, want %q", own, got, want)
		}
	}
	if got := rootOf(func(int) (string, error) { return "", errors.New("no") }); got != "" {
		t.Errorf("root %q", got)
	}
}

// TestWishes puts values on top of each other: the last word counts, whichever
// was above.
func TestWishes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, want string }{
		{`{}`, `{"a":{"b":2},"c":1}`},
		{`{"a":{"b":1,"x":1},"c":{"d":1}}`, `{"a":{"b":2},"c":1}`},
	} {
		w := &wishes{}
		w.set(map[string]any{"a.b.c": 5, "a.y": 6, "c": nil})
		w.set(map[string]any{"a": map[string]any{"x": 3, "b": 1}})
		w.set(map[string]any{"a.b": 2, "a.x": nil, "c": 1})
		raw, err := applied(json.RawMessage(c.before), "demo", w.Values)
		if err != nil || string(raw) != c.want {
			t.Errorf("on %s: %s, %v, want %s", c.before, raw, err, c.want)
		}
	}
	if raw, err := applied(nil, "demo", nil); raw != nil || err != nil {
		t.Errorf("nothing: %s, %v", raw, err)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	info := &snap.Info{Name: "demo", Hooks: map[string]*snap.Hook{}}
	info.AddHooks("configure")
	j := &job{hook: info.Hooks["configure"], timeout: 90 * time.Second}
	for _, c := range []struct {
		st   systemd.UnitStatus
		want string
	}{
		{systemd.UnitStatus{ActiveState: "active"}, ""},
		{systemd.UnitStatus{ActiveState: "failed", Result: "exit-code", ExecMainStatus: 3}, "exit status 3: b; c; d"},
		{systemd.UnitStatus{ActiveState: "failed", Result: "exit-code", ExecMainStatus: 203}, "systemd could not start it (status 203)"},
		{systemd.UnitStatus{ActiveState: "failed", Result: "timeout"}, "it did not end within 1m30s and was killed: b; c; d"},
		{systemd.UnitStatus{ActiveState: "failed", Result: "signal", ExecMainStatus: 9}, "it was ended by SIGKILL"},
		{systemd.UnitStatus{ActiveState: "inactive", Result: "success"}, "somebody stopped it"},
		{systemd.UnitStatus{ActiveState: "failed", Result: "resources"}, "resources"},
	} {
		err := j.verdict(c.st, []string{"a", "b", "c", "d"})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c.st, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), `cannot run hook "configure" of snap "demo": `) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v, want %s", c.st, err, c.want)
		}
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text            string
		typed, asString bool
		want, err       string
	}{
		{"1", false, false, "1", ""}, {"1.10", false, false, "1.10", ""}, {"one", false, false, `"one"`, ""},
		{`"one"`, false, false, `"one"`, ""}, {`{"a":[true,null]}`, false, false, `{"a":[true,null]}`, ""},
		{"1 2", false, false, `"1 2"`, ""}, {"", false, false, `""`, ""}, {"1", false, true, `"1"`, ""},
		{"one", true, false, "", "not JSON"}, {"1 2", true, false, "", "more follows"}, {"", true, false, "", "not JSON"},
	} {
		v, err := value(c.text, c.typed, c.asString)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		if raw, _ := json.Marshal(v); err != nil || string(raw) != c.want {
			t.Errorf("%q: %s, %v, want %s", c.text, raw, err, c.want)
		}
	}
}

// TestBound: a hook has its ten minutes, unless the services of its snap wait
// for it; and never more than is left. The error says which it was.
func TestBound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event lifecycle.Event
		left  time.Duration // 0: no end
		want  time.Duration
		says  string
	}{
		{lifecycle.Install, 0, 10 * time.Minute, "within 10m0s and was killed"},
		{lifecycle.Install, time.Hour, 10 * time.Minute, "within 10m0s and was killed"},
		{lifecycle.Refresh, 0, 15 * time.Second, "within 15s, all that post-refresh has while the snap's services wait for it, and was killed"},
		{lifecycle.LocalInstall, time.Minute, 15 * time.Second, "within 15s, all that post-refresh has"},
		{lifecycle.Refresh, 12*time.Second + 50*time.Millisecond, 8 * time.Second, "within 8s, all that was left of the time in which the snap's services may wait, and was killed"},
		{lifecycle.Refresh, time.Second, time.Second, "within 1s, all that was left"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := t.Context(), func() {}
			if c.left > 0 {
				ctx, stop = context.WithTimeout(ctx, c.left)
			}
			defer stop()
			j := &job{hook: &snap.Hook{Snap: &snap.Info{Name: "web"}, Name: "post-refresh"}, event: c.event, timeout: lifecycle.HookTime}
			j.bound(ctx)
			err := j.verdict(systemd.UnitStatus{ActiveState: "failed", Result: "timeout"}, []string{"working"})
			if j.timeout != c.want || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s left: %s, %v", c.event, c.left, j.timeout, err)
			}
		})
	}
}
