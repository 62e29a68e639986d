// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"endured/client"
	"endured/daemon"
	"endured/overlord/snapstate"
)

func TestConf(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.conf = map[string]any{"refresh.stop-timeout-max": "10s", "refresh-mode": map[string]any{"web": map[string]any{"srv": "endure"}}}
	conf, err := f.client.Conf(ctx, "system", []string{"refresh.stop-timeout-max", "refresh-mode"})
	if err != nil || string(conf["refresh.stop-timeout-max"]) != `"10s"` || string(conf["refresh-mode"]) != `{"web":{"srv":"endure"}}` {
		t.Errorf("get: %s, %v", conf, err)
	}
	id, err := f.client.SetConf(ctx, "system", map[string]any{"a.b": 1, "k": nil})
	if err != nil || id == "" {
		t.Errorf("set: %q, %v", id, err)
	}
	want := []string{"get system [refresh.stop-timeout-max refresh-mode]", "set system map[a.b:1 k:<nil>]"}
	if got := f.called(); !reflect.DeepEqual(got, want) {
		t.Errorf("the backend was called: %q", got)
	}

	f.fake.mu.Lock()
	f.err = &snapstate.NotInstalledError{Snap: "nosuch"}
	f.fake.mu.Unlock()
	_, err = f.client.Conf(ctx, "nosuch", nil)
	if e := refusal(t, err); e.StatusCode != 404 || e.Kind != client.KindNotFound || e.Message != `snap "nosuch" is not installed` {
		t.Errorf("missing snap: %+v", e)
	}

	f.as(daemon.Peer{UID: 1000, PID: 1, Accepted: now()})
	for _, method := range []string{"GET", "PUT"} {
		if status, _ := f.raw(method, "/v2/snaps/system/conf", "", strings.NewReader("{}")); status != 401 {
			t.Errorf("%s as a user: %d", method, status)
		}
	}
}
