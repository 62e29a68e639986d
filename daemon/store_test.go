// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"endured/client"
	"endured/daemon"
	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/store"
)

func TestStoreVerbs(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	f.plan = &lifecycle.Plan{Snap: "web"}
	edge := client.StoreOptions{Channel: "edge"}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := f.client.InstallNames(ctx, []string{"web"}, edge, client.InstallOptions{Classic: true})
	must("install", err)
	_, err = f.client.InstallNames(ctx, []string{"web", "db"}, client.StoreOptions{Together: true}, client.InstallOptions{})
	must("install two", err)
	_, err = f.client.Refresh(ctx, nil, client.StoreOptions{}, client.InstallOptions{})
	must("refresh all", err)
	_, err = f.client.Refresh(ctx, []string{"web"}, client.StoreOptions{Revision: "7", Amend: true}, client.InstallOptions{})
	must("refresh one", err)
	_, err = f.client.Switch(ctx, "web", "beta")
	must("switch", err)
	plans, err := f.client.PlanRefresh(ctx, []string{"web", "db"}, client.StoreOptions{}, client.InstallOptions{})
	must("plan", err)
	if len(plans) != 1 || plans[0].Snap != "web" {
		t.Errorf("plans: %+v", plans)
	}
	_, err = f.client.PlanInstallNames(ctx, []string{"web"}, client.StoreOptions{}, client.InstallOptions{})
	must("plan", err)
	_, err = f.client.Hold(ctx, []string{"web"}, time.Time{})
	must("hold one", err)
	_, err = f.client.Hold(ctx, nil, time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC))
	must("hold all", err)
	_, err = f.client.Unhold(ctx, []string{"web", "db"})
	must("unhold", err)
	want := []string{
		"install [web] {Flags:{Dangerous:false DevMode:false JailMode:false Classic:true} Channel:edge Revision:unset Amend:false Together:false}",
		"install [web db] {Flags:{Dangerous:false DevMode:false JailMode:false Classic:false} Channel: Revision:unset Amend:false Together:true}",
		"refresh [] {Flags:{Dangerous:false DevMode:false JailMode:false Classic:false} Channel: Revision:unset Amend:false Together:false}",
		"refresh [web] {Flags:{Dangerous:false DevMode:false JailMode:false Classic:false} Channel: Revision:7 Amend:true Together:false}",
		"switch web beta", "plan refresh [web db]", "plan install [web]",
		"hold [web] {Until:0001-01-01 00:00:00 +0000 UTC General:true}", "hold [] {Until:2100-01-02 03:04:05 +0000 UTC General:false}",
		"unhold [web db]",
	}
	if got := f.called(); !reflect.DeepEqual(got, want) {
		t.Errorf("called:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for body, message := range map[string]string{
		`{"action":"hold","snaps":["a"],"time":"2001-01-01T00:00:00Z","hold-level":"general"}`: "want a time to come",
		`{"action":"hold","snaps":["a"],"time":"forever","hold-level":"some"}`:                 "want general or auto-refresh",
		`{"action":"hold","time":"forever","hold-level":"general"}`:                            "name snaps",
		`{"action":"refresh","snaps":["a","b"],"channel":"edge"}`:                              "cannot refresh several snaps to one channel",
		`{"action":"install"}`: "no snap named",
		`{"action":"install","snaps":["a"],"transaction":"maybe"}`:         `cannot use transaction \"maybe\": want per-snap or all-snaps`,
		`{"action":"install","snaps":["a"],"revision":"x1"}`:               "it is a local one",
		`{"action":"install","snaps":["a"],"path":"/x.snap"}`:              "send the file",
		`{"action":"refresh","snaps":["a"],"devmode":true,"classic":true}`: "cannot use more than one of devmode",
	} {
		if status, answer := f.raw("POST", "/v2/snaps", "application/json", strings.NewReader(body)); status != 400 || !strings.Contains(answer, message) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	if _, err := f.client.FindOne(ctx, "web"); !client.IsKind(err, client.KindNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	web := store.Snap{Name: "web", Revision: 7, Version: "1.4", SHA3: "x", Size: 4096, YAML: []byte("name: web\nversion: '1.4'\nsummary: A server\n")}
	stable, beta := web, web
	stable.Channel, beta.Channel, beta.Revision = "latest/stable", "2/beta", 9
	f.details = &store.Details{Snap: web, Releases: []*store.Snap{&stable, &beta}}
	f.updates = []recipes.Update{
		{Offer: &stable, Plan: &lifecycle.Plan{Snap: "web", Services: []lifecycle.Step{{App: "srv", Action: lifecycle.Keep}}}},
		{Offer: &store.Snap{Name: "db"}, Err: errors.New("pid 12 is in the way")},
	}
	s, err := f.client.FindOne(ctx, "web")
	if err != nil || s.Summary != "A server" || s.Channels["2/beta"].Revision != "9" || !reflect.DeepEqual(s.Tracks, []string{"latest", "2"}) {
		t.Errorf("find by name: %+v, %v", s, err)
	}
	list, err := f.client.Find(ctx, "serv")
	if err != nil || len(list) != 1 || list[0].DownloadSize != 4096 || list[0].Revision != "7" {
		t.Errorf("find: %+v, %v", list, err)
	}
	updates, err := f.client.Updates(ctx)
	if err != nil || len(updates) != 2 || updates[0].Plan.Services[0].Action != "keep" || updates[1].Plan != nil || updates[1].PlanError == "" {
		t.Errorf("updates: %+v, %v", updates, err)
	}
}

func TestStoreRefusals(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	edge, err := store.ParseChannel("edge")
	if err != nil {
		t.Fatal(err)
	}
	for kind, err := range map[string]error{
		client.KindAlreadyInstalled: &recipes.AlreadyInstalledError{Snap: "web"},
		client.KindNoUpdate:         &recipes.NoUpdateError{Snap: "web"},
		client.KindLocal:            &recipes.LocalError{Snap: "web", Revision: -1},
		client.KindNotFound:         &store.NotFoundError{Name: "web"},
		client.KindRevisionNotFound: &store.RevisionError{Name: "web", Revision: 3},
		client.KindNoChannel:        &store.ChannelError{Name: "web", Channel: edge, Open: []string{"2/stable"}},
	} {
		f.fake.mu.Lock()
		f.err = err
		f.fake.mu.Unlock()
		_, err := f.client.Refresh(ctx, []string{"web"}, client.StoreOptions{}, client.InstallOptions{})
		if e := refusal(t, err); e.Kind != kind || e.Message == "" || e.Value == nil {
			t.Errorf("%s: %+v", kind, e)
		}
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	d, err := f.client.Download(ctx, "web", client.StoreOptions{Channel: "edge", Revision: "7"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Body.Close()
	body, err := io.ReadAll(d.Body)
	if err != nil || string(body) != "hsqs!" || d.Name != "web_7.snap" || d.Size != 5 || d.SHA3 != "abc" {
		t.Errorf("%+v, %q, %v", d, body, err)
	}
	if got := f.called(); len(got) != 1 || got[0] != "download web edge 7" {
		t.Errorf("called %q", got)
	}
	for body, message := range map[string]string{
		`{"snap-name":"../x"}`:                   "cannot download",
		`{"snap-name":"web","revision":"x1"}`:    "it is a local one",
		`{"snap-name":"web","resume-token":"x"}`: "begin it anew",
	} {
		if status, answer := f.raw("POST", "/v2/download", "", strings.NewReader(body)); status != 400 || !strings.Contains(answer, message) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	f.as(daemon.Peer{UID: 1000, PID: os.Getpid(), Accepted: now()})
	if _, err := f.newClient().Download(ctx, "web", client.StoreOptions{}); refusal(t, err).StatusCode != 401 {
		t.Errorf("as a user: %v", err)
	}
}
