// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestConnecting(t *testing.T) {
	t.Parallel()
	const (
		connections = `{"established":[
			{"plug":{"snap":"web","plug":"network"},"slot":{"snap":"snapd","slot":"network"},"interface":"network"},
			{"plug":{"snap":"web","plug":"docs"},"slot":{"snap":"docs","slot":"docs"},"interface":"content","manual":true,"plug-attrs":{"content":"manuals"}}],
			"plugs":[{"snap":"web","plug":"network","interface":"network","connections":[{"snap":"snapd","slot":"network"}]},{"snap":"web","plug":"home","interface":"home"}],
			"slots":[{"snap":"docs","slot":"more","interface":"content"},{"snap":"snapd","slot":"home","interface":"home"}]}`
		table = "Interface         Plug         Slot       Notes\n" +
			"content           -            docs:more  -\n" +
			"content[manuals]  web:docs     docs:docs  manual\n" +
			"home              web:home     -          -\n" +
			"network           web:network  :network   -\n"
		done = `{"id":"1","status":"Done","ready":true,"tasks":[]}`
	)
	for _, c := range []struct {
		args    string
		answers map[string]string
		status  int
		asked   string
		out     string
		err     string
	}{
		{args: "connections --all", answers: map[string]string{"GET /v2/connections?select=all": connections}, out: table},
		{args: "connections web", answers: map[string]string{"GET /v2/connections?select=all&snap=web": connections}, out: table},
		{args: "connections", answers: map[string]string{"GET /v2/connections": `{"established":[],"plugs":[],"slots":[]}`}},
		{args: "connections web --all", status: 64, err: "cannot use --all for one snap: its plugs and slots are all listed anyway"},
		{args: "connect web:docs docs:docs", answers: map[string]string{"POST /v2/interfaces": "change 1", "GET /v2/changes/1/wait": done},
			asked: `{"action":"connect","plugs":[{"snap":"web","plug":"docs"}],"slots":[{"snap":"docs","slot":"docs"}]}`},
		{args: "connect web:home", answers: map[string]string{"POST /v2/interfaces": "change 1", "GET /v2/changes/1/wait": done},
			asked: `"slots":[{"snap":"","slot":""}]`},
		{args: "connect web:docs docs", answers: map[string]string{"POST /v2/interfaces": "change 1", "GET /v2/changes/1/wait": done},
			asked: `"slots":[{"snap":"docs","slot":""}]`},
		{args: "connect web", status: 64, err: "please name the plug"},
		{args: "connect web:a:b", status: 64, err: "want SNAP:NAME or SNAP"},
		{args: "disconnect web:docs", answers: map[string]string{"POST /v2/interfaces": "change 1", "GET /v2/changes/1/wait": done},
			asked: `{"action":"disconnect","plugs":[{"snap":"","plug":""}],"slots":[{"snap":"web","slot":"docs"}]}`},
		{args: "disconnect --forget web:docs docs:docs", answers: map[string]string{"POST /v2/interfaces": "change 1", "GET /v2/changes/1/wait": done},
			asked: `"forget":true`},
		{args: "disconnect web:docs", answers: map[string]string{"POST /v2/interfaces": `error 400 {"message":"nothing to do","kind":"interfaces-unchanged"}`},
			err: "Nothing is connected there."},
		{args: "interface", answers: map[string]string{"GET /v2/interfaces?doc=true&plugs=false&select=connected&slots=false": `[{"name":"home","summary":"files"}]`},
			out: "Name  Summary\nhome  files\n"},
		{args: "interface --attrs dbus", answers: map[string]string{"GET /v2/interfaces?doc=true&names=dbus&plugs=true&select=all&slots=true": `[{"name":"dbus","summary":"bus",
			"plugs":[{"snap":"web","plug":"x","attrs":{"bus":"system","name":"org.x.y"}}],"slots":[{"snap":"srv","slot":"dbus"}]}]`},
			out: "name:    dbus\nsummary: bus\nplugs:\n  - web:x:\n      bus: system\n      name: org.x.y\nslots:\n  - srv\n"},
		{args: "interface nosuch", answers: map[string]string{"GET /v2/interfaces?doc=true&names=nosuch&plugs=true&select=all&slots=true": `[]`}, status: 1, err: "cannot find interface \"nosuch\""},
	} {
		w := newWorld(t, c.answers)
		status := w.execute(t.Context(), strings.Fields(c.args))
		if status != c.status || c.out != "" && w.out.String() != c.out || !strings.Contains(w.err.String(), c.err) || !strings.Contains(w.asked(), c.asked) {
			t.Errorf("snap %s: %d\n%s%s%s", c.args, status, w.out.String(), w.err.String(), w.asked())
		}
	}
}
