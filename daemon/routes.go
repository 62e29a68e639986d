// SPDX-License-Identifier: Apache-2.0

package daemon

import "net/http"

// access says who may use a route.
type access int

const (
	// open is for everybody.
	open access = iota
	// authenticated is for uid 0; others are asked to identify themselves.
	authenticated
	// rootOnly is for uid 0 and nobody else.
	rootOnly
	// snaps is for programs of snaps, on their own socket; nothing else is there.
	snaps
)

// check returns nil if the peer may go on, and otherwise the refusal.
func (a access) check(p Peer) *response {
	switch {
	case (a == snaps) != p.FromSnaps:
		return denied(http.StatusForbidden)
	case a == open || a == snaps || p.UID == 0:
		return nil
	case a == authenticated:
		return denied(http.StatusUnauthorized)
	}
	return denied(http.StatusForbidden)
}

// route is one row of the API.
type route struct {
	path    string
	method  string
	access  access
	handler func(*call) *response
}

// routes is the API. Rows marked + are endured's own.
func routes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{"/v2/system-info", get, open, getSystemInfo},
		{"/v2/snaps", get, open, getSnaps},
		{"/v2/snaps", post, authenticated, postSnaps},
		{"/v2/snaps/{name}", get, open, getSnap},
		{"/v2/snaps/{name}", post, authenticated, postSnap},
		{"/v2/snaps/{name}/conf", get, authenticated, getConf},
		{"/v2/snaps/{name}/conf", http.MethodPut, authenticated, putConf},
		{"/v2/find", get, open, getFind},
		{"/v2/download", post, authenticated, postDownload},
		{"/v2/apps", get, open, getApps},
		{"/v2/apps", post, authenticated, postApps},
		{"/v2/logs", get, authenticated, getLogs},
		{"/v2/notices", get, open, getNotices},
		{"/v2/notices/{id}", get, open, getNotice},
		{"/v2/connections", get, open, getConnections},
		{"/v2/interfaces", get, open, getInterfaces},
		{"/v2/interfaces", post, authenticated, postInterfaces},
		{"/v2/changes", get, open, getChanges},
		{"/v2/changes/{id}", get, open, getChange},
		{"/v2/changes/{id}", post, authenticated, postChange},
		{"/v2/changes/{id}/wait", get, open, waitChange}, // +
		{"/v2/warnings", get, open, getWarnings},
		{"/v2/warnings", post, authenticated, postWarnings},
		{"/v2/debug", get, open, getDebug},
		{"/v2/track", post, open, postTrack}, // +
		{"/v2/snapctl", post, snaps, postSnapctl},
	}
}

// byPath groups routes by path, then by method.
func byPath(list []route) map[string]map[string]route {
	out := map[string]map[string]route{}
	for _, r := range list {
		if out[r.path] == nil {
			out[r.path] = map[string]route{}
		}
		out[r.path][r.method] = r
	}
	return out
}
