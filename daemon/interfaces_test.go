// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"endured/client"
	"endured/daemon"
	"endured/interfaces"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/snap"
)

func TestConnections(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	for _, yaml := range []string{
		"name: web\nversion: 1\napps: {web: {command: x, plugs: [network, home, log-observe, docs]}}\nplugs: {docs: {interface: content, target: $SNAP_COMMON/d}}\n",
		"name: docs\nversion: 1\nslots: {docs: {interface: content, read: [/d]}}\n",
	} {
		info, err := snap.Parse([]byte(yaml))
		if err != nil {
			t.Fatal(err)
		}
		f.snaps = append(f.snaps, recipes.SnapView{Info: info, Record: snapstate.Record{Name: info.Name}, Current: true})
	}
	f.conns = map[string]interfaces.ConnState{
		"web:network snapd:network": {Auto: true}, "web:docs docs:docs": {}, "web:home snapd:home": {Auto: true, Undesired: true},
	}
	status, body := f.raw("GET", "/v2/connections", "", nil)
	want := `"result":{"established":[` +
		`{"slot":{"snap":"docs","slot":"docs"},"plug":{"snap":"web","plug":"docs"},"interface":"content","manual":true,"slot-attrs":{"read":["/d"]},"plug-attrs":{"target":"$SNAP_COMMON/d"}},` +
		`{"slot":{"snap":"snapd","slot":"network"},"plug":{"snap":"web","plug":"network"},"interface":"network"}],`
	if status != 200 || !strings.Contains(string(body), want) {
		t.Errorf("%d %s", status, body)
	}
	got, err := f.client.Connections(ctx, "web", true)
	if err != nil || len(got.Established) != 2 || len(got.Undesired) != 1 || len(got.Plugs) != 4 || len(got.Slots) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = f.client.Connections(ctx, "docs", false); err != nil || len(got.Established) != 1 || len(got.Plugs) != 1 || len(got.Slots) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	list, err := f.client.Interfaces(ctx, nil, false, false)
	if err != nil || len(list) != 2 || list[0].Name != "content" || list[1].Name != "network" || list[0].Plugs != nil {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = f.client.Interfaces(ctx, []string{"home"}, true, true); err != nil || len(list) != 1 || len(list[0].Plugs) != 1 || len(list[0].Slots) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	var legacy struct {
		Result struct{ Plugs, Slots []json.RawMessage }
	}
	if _, body = f.raw("GET", "/v2/interfaces", "", nil); json.Unmarshal([]byte(body), &legacy) != nil || len(legacy.Result.Plugs) != 4 || len(legacy.Result.Slots) < 10 {
		t.Errorf("%s", body)
	}
}

func TestConnectRequests(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	r := client.InterfaceRequest{Action: "connect", Plugs: []client.PlugRef{{Snap: "web", Name: "docs"}}, Slots: []client.SlotRef{{}}}
	if id, err := f.client.ChangeConnection(ctx, r); err != nil || id == "" {
		t.Error(id, err)
	}
	r = client.InterfaceRequest{Action: "disconnect", Plugs: []client.PlugRef{{}}, Slots: []client.SlotRef{{Snap: "web", Name: "docs"}}, Forget: true}
	if _, err := f.client.ChangeConnection(ctx, r); err != nil {
		t.Error(err)
	}
	if got := f.called(); !reflect.DeepEqual(got, []string{"connect web:docs :", "disconnect : web:docs true"}) {
		t.Errorf("%q", got)
	}
	for _, bad := range []string{`{}`, `{"action":"connect"}`, `{"action":"melt","plugs":[{}],"slots":[{}]}`, `{"action":"connect","plugs":[{},{}],"slots":[{}]}`} {
		if status, _ := f.raw("POST", "/v2/interfaces", "", strings.NewReader(bad)); status != 400 {
			t.Errorf("%s: %d", bad, status)
		}
	}
	f.fake.mu.Lock()
	f.err = &interfaces.UnchangedError{What: "nothing to do"}
	f.fake.mu.Unlock()
	_, err := f.client.ChangeConnection(ctx, r)
	if e := refusal(t, err); e.StatusCode != 400 || e.Kind != client.KindUnchanged {
		t.Errorf("%+v", e)
	}
	f.as(daemon.Peer{UID: 1000, PID: 1, Accepted: now()})
	if status, _ := f.raw("POST", "/v2/interfaces", "", strings.NewReader("{}")); status != 401 {
		t.Errorf("as a user: %d", status)
	}
}
