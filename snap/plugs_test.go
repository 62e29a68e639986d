// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"reflect"
	"strings"
	"testing"
)

func TestPlugForms(t *testing.T) {
	t.Parallel()
	i, err := Parse([]byte(`name: demo
version: 1
plugs:
  bare:
  short: network
  long: {interface: content, label: Shared files, target: $SNAP/x, read: [a, b], deep: {n: 3, f: 1.5, on: true, none: }, size: 7, empty: }
slots:
  out: {interface: content, write: [/]}
apps:
  a: {command: x, plugs: [home, long, home], slots: [out]}
  b: {command: x}
hooks:
  install: {plugs: [short]}
  remove:
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Plug{
		Snap: i, Name: "long", Interface: "content", Label: "Shared files", Apps: []string{"a"},
		Attrs: Attrs{
			"target": "$SNAP/x", "read": []any{"a", "b"}, "size": int64(7),
			"deep": map[string]any{"n": int64(3), "f": 1.5, "on": true, "none": nil},
		},
	}
	if got := i.Plugs["long"]; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	names := func(plugs []*Plug) string {
		var out []string
		for _, p := range plugs {
			out = append(out, p.Name)
		}
		return strings.Join(out, " ")
	}
	i.AddHooks("configure")
	for who, want := range map[string]string{
		"a": "bare home long", "b": "bare", "hook.install": "bare short", "hook.remove": "bare", "hook.configure": "bare", "c": "",
	} {
		if got := names(i.PlugsOf(who)); got != want {
			t.Errorf("%s: %q", who, got)
		}
	}
	if bare := i.Plugs["bare"]; !reflect.DeepEqual(bare.Hooks, []string{"configure", "install", "remove"}) || bare.String() != "demo:bare" {
		t.Errorf("%+v", bare)
	}
	if got := i.SlotsOf("a"); len(got) != 1 || got[0].String() != "demo:out" || len(i.SlotsOf("b")) != 0 {
		t.Error(got)
	}
	if list, err := want.Attrs.Strings("read"); err != nil || len(list) != 2 {
		t.Error(list, err)
	}
	for _, err := range []error{second(want.Attrs.String("read")), second(want.Attrs.Strings("target")), second(want.Attrs.Bool("size"))} {
		if err == nil {
			t.Error("a value of another type was taken")
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestPlugsRefused(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		"plugs: {a: [x]}":                              "plugs.a: must be the name of an interface or a map, found a list",
		"plugs: {a: {interface: B}}":                   "is not a valid name",
		"plugs: {A: }":                                 "is not a valid name",
		"plugs: {a: {interface: content, $x: 1}}":      "cannot be the name of an attribute",
		"plugs: {a: {x: \"a\\nb\"}}":                   "control character U+000A",
		"plugs: {a: {x: {\"a\\nb\": 1}}}":              "control character",
		"plugs: {a: {x: [18446744073709551615]}}":      "too large a number",
		"plugs: {a: {x: .nan}}":                        "not a number that can be used",
		"plugs: {a: {x: !!binary aGk=}}":               "must be a plain value",
		"plugs: {a: home}\nslots: {a: home}":           "there is a plug of that name",
		"slots: {s: {interface: content, label: [x]}}": "slots.s.label: must be a single value",
	} {
		_, err := Parse([]byte("name: demo\nversion: 1\n" + yaml + "\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}
