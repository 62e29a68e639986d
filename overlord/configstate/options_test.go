// SPDX-License-Identifier: Apache-2.0

package configstate_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"endured/overlord/configstate"
)

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, set, want, err string }{
		{`{}`, `{"a":1}`, `{"a":1}`, ""},
		{``, `{"a.b.c":"x","a.d":true}`, `{"a":{"b":{"c":"x"},"d":true}}`, ""},
		{`{"a":{"b":1}}`, `{"a":{"c":2}}`, `{"a":{"c":2}}`, ""},
		{`{"a":{"b":1}}`, `{"a.c":2}`, `{"a":{"b":1,"c":2}}`, ""},
		{`{"a":{"b":1,"c":2}}`, `{"a.b":null}`, `{"a":{"c":2}}`, ""},
		{`{"a":{"b":1}}`, `{"a":null,"a.x":3}`, `{"a":{"x":3}}`, ""},
		{`{"a":1}`, `{"a.b":null,"x.y":null}`, `{"a":1}`, ""},
		{`{"a":1}`, `{"b":{"c":null,"d":{"e":null}}}`, `{"a":1,"b":{"d":{}}}`, ""},
		{`{}`, `{"big":12345678901234567890,"f":1.10}`, `{"big":12345678901234567890,"f":1.10}`, ""},
		{`{"a":1}`, `{"a.b.c":2}`, "", `cannot set "a.b.c": snap "demo" option "a" is not a map`},
		{`{"a":{"b":"s"}}`, `{"a.b.c":2}`, "", `option "a.b" is not a map`},
		{`{}`, `{"A":1}`, "", `invalid option name: "A"`},
		{`{}`, `{"a..b":1}`, "", `invalid option name: "a..b"`},
		{`{}`, `{"a":{"b":[{"_":1}]}}`, "", `invalid option name`},
		{`{}`, `{"-a":null}`, "", `invalid option name`},
	} {
		before, err := configstate.ReadOptions(json.RawMessage(c.before))
		if err != nil {
			t.Fatal(err)
		}
		was, _ := before.Raw()
		set, err := configstate.ReadOptions(json.RawMessage(c.set))
		if err != nil {
			t.Fatal(err)
		}
		got, err := before.Apply("demo", set)
		if now, _ := before.Raw(); string(now) != string(was) {
			t.Errorf("%s with %s: changed what was there: %s", c.before, c.set, now)
		}
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s with %s: %v, want %s", c.before, c.set, err, c.err)
			}
		case err != nil:
			t.Errorf("%s with %s: %v", c.before, c.set, err)
		default:
			if raw, _ := got.Raw(); string(raw) != c.want {
				t.Errorf("%s with %s: %s, want %s", c.before, c.set, raw, c.want)
			}
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	o, err := configstate.ReadOptions(json.RawMessage(`{"a":{"b":1,"c":[1,2]},"d":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	for keys, want := range map[string]string{
		"": `{"a":{"b":1,"c":[1,2]},"d":"x"}`, "a.b": `{"a.b":1}`, "a,d": `{"a":{"b":1,"c":[1,2]},"d":"x"}`,
	} {
		var list []string
		if keys != "" {
			list = strings.Split(keys, ",")
		}
		got, err := o.Select("demo", list)
		if raw, _ := json.Marshal(got); err != nil || string(raw) != want {
			t.Errorf("%s: %s, %v", keys, raw, err)
		}
	}
	var none *configstate.NoOptionError
	if _, err := o.Select("demo", []string{"a", "d.e"}); !errors.As(err, &none) || none.Key != "d.e" || none.Snap != "demo" {
		t.Error(err)
	}
}

func TestOptionsTooLarge(t *testing.T) {
	t.Parallel()
	o, err := configstate.Options{}.Apply("demo", map[string]any{"a": strings.Repeat("x", configstate.MaxOptions)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Raw(); err == nil || !strings.Contains(err.Error(), "at most 1048576 are allowed") {
		t.Error(err)
	}
	deep := any("x")
	for range 100 {
		deep = []any{deep}
	}
	if _, err := o.Apply("demo", map[string]any{"a": deep}); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Error(err)
	}
}
