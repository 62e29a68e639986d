// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"encoding/json"
	"strings"
	"testing"

	"endured/client"
)

// FuzzRequests: whatever is sent, the answer is an envelope that a client can
// read, and never a failure of the daemon itself.
func FuzzRequests(f *testing.F) {
	targets := []struct{ method, path, contentType string }{
		{"POST", "/v2/snaps", "application/json"}, {"POST", "/v2/snaps/probe", ""}, {"POST", "/v2/apps", ""},
		{"POST", "/v2/changes/1", ""}, {"PUT", "/v2/snaps/system/conf", ""}, {"POST", "/v2/warnings", ""},
		{"POST", "/v2/snaps", "multipart/form-data; boundary=x"}, {"POST", "/v2/track", ""},
	}
	for n := range targets {
		f.Add(uint8(n), "/", []byte(`{"action":"install","snaps":["a"],"names":["a.b"],"revision":"7"}`))
	}
	f.Add(uint8(0), "?select=all&n=-1", []byte(`{"action":{}}`))
	f.Add(uint8(0), "", []byte(`{"action":"refresh","snaps":[null,"../.."],"transaction":7}`))
	f.Add(uint8(4), "", []byte(`{"a":{"b":[1,2,{"c":1e999}]}}`))
	f.Add(uint8(6), "", []byte("--x\r\nContent-Disposition: form-data; name=\"snap\"; filename=\"../../x\"\r\n\r\nhsqs\r\n--x--\r\n"))
	f.Add(uint8(6), "", []byte("--x\r\nContent-Disposition: form-data; name=\"action\"\r\n\r\n\x00\xff\r\n--x"))
	f.Fuzz(func(t *testing.T, target uint8, query string, body []byte) {
		fx := newFixture(t)
		to := targets[int(target)%len(targets)]
		path := to.path
		if strings.HasPrefix(query, "?") && !strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' || r == '%' }) {
			path += query
		}
		status, answer := fx.raw(to.method, path, to.contentType, strings.NewReader(string(body)))
		var e client.Envelope
		if err := json.Unmarshal([]byte(answer), &e); err != nil || e.StatusCode != status || status >= 500 {
			t.Errorf("%s %s %q: %d %s (%v)", to.method, path, body, status, answer, err)
		}
		if e.Type == "error" && len(fx.spooled()) > 0 {
			t.Errorf("%s %s %q: left %v", to.method, path, body, fx.spooled())
		}
	})
}
