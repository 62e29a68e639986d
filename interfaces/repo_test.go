// SPDX-License-Identifier: Apache-2.0

package interfaces_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"endured/interfaces"
	"endured/interfaces/builtin"
	"endured/snap"
)

const (
	webYAML = `name: web
version: 1
apps: {web: {command: x, plugs: [network, home, docs, log-observe, odd]}}
plugs:
  docs: {interface: content, content: docs, target: $SNAP_COMMON/docs}
  odd: {interface: camera-of-tomorrow}
  all: {interface: home, read: all}
`
	docsYAML = `name: docs
version: 1
apps: {x: {command: x}}
slots:
  docs: {interface: content, content: docs, read: [/docs]}
  more: {interface: content, content: more, read: [/more]}
`
)

func installed(t *testing.T, publisher string, yamls ...string) []interfaces.Installed {
	t.Helper()
	var out []interfaces.Installed
	for n, y := range yamls {
		i, err := snap.Parse([]byte(y))
		if err != nil {
			t.Fatal(err)
		}
		i.Revision = snap.Revision(n + 1)
		out = append(out, interfaces.Installed{Info: i, Publisher: publisher})
	}
	return out
}

type conns = map[string]interfaces.ConnState

func repository(t *testing.T, snaps []interfaces.Installed, c conns) *interfaces.Repository {
	t.Helper()
	r, err := interfaces.New(builtin.All(), snaps, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func end(s string) interfaces.End {
	name, rest, _ := strings.Cut(s, ":")
	return interfaces.End{Snap: name, Name: rest}
}

func TestAuto(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		snaps []interfaces.Installed
		have  conns
		of    string
		want  []string
	}{
		"local files":         {installed(t, "", webYAML, docsYAML), nil, "web", []string{"web:home snapd:home", "web:network snapd:network"}},
		"one publisher":       {installed(t, "p", webYAML, docsYAML), nil, "web", []string{"web:docs docs:docs", "web:home snapd:home", "web:network snapd:network"}},
		"the provider's turn": {installed(t, "p", webYAML, docsYAML), nil, "docs", []string{"web:docs docs:docs"}},
		"two to choose from": {installed(t, "p", webYAML, docsYAML, strings.Replace(docsYAML, "name: docs", "name: docs2", 1)), nil, "web",
			[]string{"web:home snapd:home", "web:network snapd:network"}},
		"connected already": {installed(t, "", webYAML), conns{"web:home snapd:home": {}}, "web", []string{"web:network snapd:network"}},
		"taken away":        {installed(t, "", webYAML), conns{"web:home snapd:home": {Undesired: true}}, "web", []string{"web:network snapd:network"}},
		"to what is gone":   {installed(t, "p", webYAML, docsYAML), conns{"web:docs old:docs": {}}, "docs", []string{"web:docs docs:docs"}},
	} {
		got := repository(t, c.snaps, c.have).Auto(c.of)
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, c.want) {
			t.Errorf("%s: %q", name, keys)
		}
		for id, s := range got {
			if !s.Auto || s.Interface == "" {
				t.Errorf("%s: %s is %+v", name, id, s)
			}
		}
	}
}

func TestConnectable(t *testing.T) {
	t.Parallel()
	r := repository(t, installed(t, "", webYAML, docsYAML), nil)
	for _, c := range []struct{ plug, slot, want string }{
		{"web:network", "", "web:network snapd:network"},
		{"web:network", ":network", "web:network snapd:network"},
		{"web:network", "core", "web:network snapd:network"},
		{"web:docs", "docs:docs", "web:docs docs:docs"},
		{"web:docs", "docs", `cannot use: snap "docs" has several slots of interface "content" (docs, more): name one`},
		{"web:docs", "docs:more", `the plug wants the content "docs", the slot has "more"`},
		{"web:docs", "", `snap "snapd" has no "content" interface slots`},
		{"web:nope", "", `snap "web" has no plug named "nope"`},
		{"web:docs", "docs:nope", `snap "docs" has no slot named "nope"`},
		{"web:odd", "", `interface "camera-of-tomorrow" is not known`},
		{"none:x", "", `snap "none" is not installed or disabled`},
		{"web:docs", "none:x", `snap "none" is not installed or disabled`},
		{"web:home", ":network", `cannot connect web:home ("home" interface) to snapd:network ("network" interface)`},
	} {
		ref, _, err := r.Connectable(end(c.plug), end(c.slot))
		got := ref.ID()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, strings.TrimPrefix(c.want, "cannot use: ")) {
			t.Errorf("%s %s: %s", c.plug, c.slot, got)
		}
	}
}

func TestDisconnectable(t *testing.T) {
	t.Parallel()
	r := repository(t, installed(t, "", webYAML, docsYAML), conns{
		"web:network snapd:network": {Auto: true}, "web:docs docs:docs": {}, "web:home snapd:home": {Undesired: true},
	})
	for _, c := range []struct {
		plug, slot string
		forget     bool
		want       string
	}{
		{"web:network", "", false, "web:network snapd:network"},
		{"", "web:network", false, "web:network snapd:network"},
		{"", ":network", false, "web:network snapd:network"},
		{"web:docs", "docs:docs", false, "web:docs docs:docs"},
		{"", "docs:docs", false, "web:docs docs:docs"},
		{"web:home", ":home", false, "cannot disconnect web:home from snapd:home, it is not connected"},
		{"web:home", ":home", true, "web:home snapd:home"},
		{"", "web:home", false, "nothing to do"},
		{"", "web:nope", false, `snap "web" has no plug or slot named "nope"`},
		{"", "none:nope", false, `snap "none" is not installed or disabled`},
	} {
		refs, err := r.Disconnectable(end(c.plug), end(c.slot), c.forget)
		got := ""
		for _, ref := range refs {
			got += ref.ID()
		}
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %s: %s", c.plug, c.slot, got)
		}
	}
}

func TestRepository(t *testing.T) {
	t.Parallel()
	r := repository(t, installed(t, "", webYAML, docsYAML), conns{
		"web:network snapd:network": {Auto: true}, "web:docs docs:docs": {}, "web:home snapd:home": {Undesired: true},
		"web:gone snapd:network": {}, "web:docs gone:docs": {},
	})
	var ids []string
	for _, c := range r.Connections() {
		ids = append(ids, c.Ref.ID())
	}
	if !slices.Equal(ids, []string{"web:docs docs:docs", "web:network snapd:network"}) || len(r.Undesired()) != 1 {
		t.Error(ids)
	}
	if got := r.Connected("docs"); !slices.Equal(got, []string{"web"}) {
		t.Error(got)
	}
	next, err := snap.Parse([]byte(webYAML))
	if err != nil {
		t.Fatal(err)
	}
	next.Revision = 9 // not the current one
	s, err := r.SpecFor(next, "web")
	if err != nil || len(s.Mounts) != 1 || s.Mounts[0] != (interfaces.Mount{Source: "/snap/docs/current/docs", Within: "/snap/docs/current", Target: "/var/snap/web/common/docs", ReadOnly: true}) {
		t.Errorf("%+v, %v", s, err)
	}
	if got := r.Unknown(next); !slices.Equal(got, []string{"plug odd (camera-of-tomorrow)"}) {
		t.Error(got)
	}
	if _, err := interfaces.New(nil, nil, conns{"web network": {}}); err == nil {
		t.Error("nonsense was read")
	}
}
