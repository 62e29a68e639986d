// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"endured/client"
	"endured/daemon"
	"endured/overlord/recipes"
)

// fuzzTarget is a route to send anything to. GET takes it as its query.
type fuzzTarget struct{ method, path, contentType string }

func fuzzTargets() []fuzzTarget {
	return []fuzzTarget{
		{"POST", "/v2/snaps", "application/json"}, {"POST", "/v2/snaps/probe", ""}, {"POST", "/v2/apps", ""},
		{"POST", "/v2/changes/1", ""}, {"PUT", "/v2/snaps/system/conf", ""}, {"POST", "/v2/warnings", ""},
		{"POST", "/v2/snaps", "multipart/form-data; boundary=x"}, {"POST", "/v2/track", ""},
		{"POST", "/v2/interfaces", ""}, {"POST", "/v2/snapctl", ""}, {"POST", "/v2/download", ""},
		{"GET", "/v2/snaps", ""}, {"GET", "/v2/apps", ""}, {"GET", "/v2/changes", ""}, {"GET", "/v2/changes/1/wait", ""},
		{"GET", "/v2/notices", ""}, {"GET", "/v2/find", ""}, {"GET", "/v2/connections", ""}, {"GET", "/v2/interfaces", ""},
		{"GET", "/v2/warnings", ""}, {"GET", "/v2/debug", ""}, {"GET", "/v2/snaps/system/conf", ""},
	}
}

// FuzzRequests: whatever is sent, the answer is an envelope that a client can
// read, and never a failure of the daemon itself. The handlers are called as
// they are, on one daemon for all runs.
func FuzzRequests(f *testing.F) {
	targets := fuzzTargets()
	for n := range targets {
		f.Add(uint8(n), "select=all&snap=x&names=a,b.c&timeout=5ms", []byte(`{"action":"install","snaps":["a"],"names":["a.b"],"revision":"7"}`))
		f.Add(uint8(n), "n=-1&after=2001-01-01T00:00:00Z&aspect=change-timings&change-id=1", []byte(`{"action":{}}`))
	}
	for _, body := range []string{
		`{"action":"refresh","snaps":[null,"../.."],"transaction":7}`, `{"action":"refresh","transaction":"all-snaps","channel":"a/b/c"}`,
		`{"action":"hold","time":"forever","hold-level":"general"}`, `{"action":"hold","snaps":["a"],"time":"2101-01-01T00:00:00Z","hold-level":"auto-refresh"}`,
		`{"action":"remove","revision":"x1","purge":true}`, `{"action":"install","path":"/x.snap","dry-run":true,"dangerous":true}`,
	} {
		f.Add(uint8(0), "", []byte(body))
		f.Add(uint8(1), "", []byte(body))
	}
	f.Add(uint8(2), "", []byte(`{"action":"stop","names":["a","b.c"],"disable":true}`))
	f.Add(uint8(3), "", []byte(`{"action":"abort"}`))
	f.Add(uint8(4), "", []byte(`{"a":{"b":[1,2,{"c":1e999}]}}`))
	f.Add(uint8(5), "", []byte(`{"action":"okay","timestamp":"2026-01-01T00:00:00Z"}`))
	f.Add(uint8(6), "", []byte("--x\r\nContent-Disposition: form-data; name=\"snap\"; filename=\"../../x\"\r\n\r\nhsqs\r\n--x--\r\n"))
	f.Add(uint8(6), "", []byte("--x\r\nContent-Disposition: form-data; name=\"action\"\r\n\r\n\x00\xff\r\n--x"))
	f.Add(uint8(6), "", []byte("--x\r\nContent-Disposition: form-data; name=\"dangerous\"\r\n\r\ntrue\r\n--x\r\n"+
		"Content-Disposition: form-data; name=\"snap\"; filename=\"a\"\r\n\r\nhsqs\r\n--x--\r\n"))
	f.Add(uint8(8), "", []byte(`{"action":"connect","plugs":[{"snap":"a","plug":"b"}],"slots":[{"snap":"","slot":""}]}`))
	f.Add(uint8(9), "", []byte(`{"context-id":"x","args":["get","a"]}`))
	f.Add(uint8(10), "", []byte(`{"snap-name":"web","channel":"edge","header-peek":true}`))

	fx := newFixture(f)
	fx.snaps = []recipes.SnapView{probeView(-1, true)}
	fx.fixed = fx.newChange("install-snap", "probe")
	f.Fuzz(func(t *testing.T, n uint8, query string, body []byte) {
		to := targets[int(n)%len(targets)]
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, to.method, to.path, strings.NewReader(string(body)))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", to.contentType)
		w := httptest.NewRecorder()
		fx.daemon.Handle(w, r, daemon.Peer{PID: os.Getpid(), Accepted: now(), FromSnaps: to.path == "/v2/snapctl"})

		if to.path == "/v2/download" && w.Code == 200 {
			return
		}
		var e client.Envelope
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.StatusCode != w.Code || w.Code >= 500 {
			t.Errorf("%s %s?%s %q: %d %s (%v)", to.method, to.path, query, body, w.Code, w.Body, err)
		}
		var refused client.Error
		if e.Type == "error" && (json.Unmarshal(e.Result, &refused) != nil || refused.Message == "") {
			t.Errorf("%s %s?%s %q: refused without a message: %s", to.method, to.path, query, body, w.Body)
		}
		spooled, err := os.ReadDir(fx.dirs.Blobs())
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range spooled {
			if e.Type == "error" {
				t.Errorf("%s %q: left %s", to.path, body, file.Name())
			}
			os.Remove(filepath.Join(fx.dirs.Blobs(), file.Name()))
		}
	})
}
