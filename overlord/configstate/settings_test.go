// SPDX-License-Identifier: Apache-2.0

package configstate_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"endured/overlord/configstate"
	"endured/overlord/state"
)

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMakePatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, keys, err string }{
		{in: `{"refresh.stop-timeout-max":"1m30s"}`, keys: "refresh.stop-timeout-max"},
		{in: `{"refresh":{"stop-timeout-max":"10s"},"refresh-mode":{"web":{"srv":"endure","db":null}}}`,
			keys: "refresh-mode.web.db refresh-mode.web.srv refresh.stop-timeout-max"},
		{in: `{"refresh-mode.web.srv":"sigusr2-all"}`, keys: "refresh-mode.web.srv"},
		{in: `{"refresh-mode.web":null}`, keys: "refresh-mode.web"},
		{in: `{"refresh":null,"refresh-mode":null}`, keys: "refresh refresh-mode"},
		{in: `{"refresh.stop-timeout-max":"30"}`, err: `cannot set "refresh.stop-timeout-max" to "30": want a duration`},
		{in: `{"refresh.stop-timeout-max":30}`, err: `cannot set "refresh.stop-timeout-max" to 30: want a duration`},
		{in: `{"refresh.stop-timeout-max":"-1s"}`, err: `or more; 'snap unset system refresh.stop-timeout-max'`},
		{in: `{"refresh.stop-timeout-max":"1us"}`, err: `1ms or more`},
		{in: `{"refresh.stop-timeout-max":["1s"]}`, err: `want a duration`},
		{in: `{"refresh-mode.web.srv":"ignore-running"}`, err: `refresh-mode "ignore-running" is not one of endure, restart,`},
		{in: `{"refresh-mode.web.srv":""}`, err: `is not one of`},
		{in: `{"refresh-mode.web.srv":true}`, err: `cannot set "refresh-mode.web.srv" to true: want the word of a refresh-mode`},
		{in: `{"refresh-mode.web":"endure"}`, err: `cannot set "refresh-mode.web": the system has no such setting`},
		{in: `{"refresh-mode.web.a.b":"endure"}`, err: `the system has no such setting`},
		{in: `{"refresh-mode..a":"endure"}`, err: `the system has no such setting`},
		{in: `{"refresh":"x"}`, err: `the system has no such setting`},
		{in: `{"proxy":{"http":"x"}}`, err: `cannot set "proxy": the system has no such setting`},
		{in: `{"refresh.count":null}`, err: `cannot unset "refresh.count": the system has no such setting; there are refresh.stop-timeout-max, refresh.retain, refresh.hold, refresh.timer, store.path and refresh-mode.<snap>.<app>`},
		{in: `{"refresh.retain":3,"store":{"path":"/srv/snaps"}}`, keys: "refresh.retain store.path"},
		{in: `{"refresh.retain":"20"}`, keys: "refresh.retain"},
		{in: `{"refresh.retain":1}`, err: `want a number from 2 to 20`},
		{in: `{"refresh.retain":2.5}`, err: `want a number from 2 to 20`},
		{in: `{"refresh.retain":"03"}`, err: `want a number from 2 to 20`},
		{in: `{"refresh":{"hold":"2030-01-31T10:00:00Z","timer":"fri,23:00-01:00"}}`, keys: "refresh.hold refresh.timer"},
		{in: `{"refresh.hold":"forever"}`, keys: "refresh.hold"},
		{in: `{"refresh.hold":"tomorrow"}`, err: `want a time such as "2030-01-31T10:00:00Z" or "forever"`},
		{in: `{"refresh.timer":"whenever"}`, err: `cannot set "refresh.timer": `},
		{in: `{"store.path":"srv"}`, err: `want the absolute path of a directory`},
		{in: `{"store.path":"/srv/../etc"}`, err: `want the absolute path of a directory`},
		{in: `{"store":null}`, keys: "store"},
		{in: `{"":null}`, err: `no such setting`},
	} {
		p, err := configstate.MakePatch(values(t, c.in))
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", c.in, err)
		case c.err == "":
			if got := strings.Join(p.Keys(), " "); got != c.keys {
				t.Errorf("%s: changes %q, want %q", c.in, got, c.keys)
			}
		case err == nil || !strings.Contains(err.Error(), c.err):
			t.Errorf("%s: %v, want %q", c.in, err, c.err)
		}
	}
}

func TestPatchBounds(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		`{"refresh.stop-timeout-max":"1s"}`: true, `{"refresh.stop-timeout-max":null}`: true, `{"refresh":null}`: true,
		`{"refresh-mode":null}`: false, `{"refresh-mode.a.b":"endure"}`: false,
	} {
		p, err := configstate.MakePatch(values(t, in))
		if err != nil || p.Bounds() != want {
			t.Errorf("%s: %v, want %v (%v)", in, p.Bounds(), want, err)
		}
	}
}

// TestGet reads what is stored, and what was never set.
func TestGet(t *testing.T) {
	t.Parallel()
	st, err := state.Open(filepath.Join(t.TempDir(), "state.db"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if conf, err := configstate.Get(st, "system", nil); err != nil || len(conf) != 0 {
		t.Errorf("nothing set: %v, %v", conf, err)
	}
	if d := configstate.StopTimeoutMax(st); d != 0 {
		t.Errorf("ceiling %s", d)
	}
	err = st.Update(func(tx *state.Tx) error {
		return tx.Set("config/system", map[string]string{
			"refresh.stop-timeout-max": "10s", "refresh-mode.web.srv": "endure", "refresh-mode.webber.srv": "restart",
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for keys, want := range map[string]string{
		"":                         `{"refresh":{"stop-timeout-max":"10s"},"refresh-mode":{"web":{"srv":"endure"},"webber":{"srv":"restart"}}}`,
		"refresh.stop-timeout-max": `{"refresh.stop-timeout-max":"10s"}`,
		"refresh":                  `{"refresh":{"stop-timeout-max":"10s"}}`,
		"refresh-mode.web,refresh": `{"refresh-mode.web":{"srv":"endure"},"refresh":{"stop-timeout-max":"10s"}}`,
	} {
		var list []string
		if keys != "" {
			list = strings.Split(keys, ",")
		}
		if conf, err := configstate.Get(st, "system", list); err != nil || !reflect.DeepEqual(conf, values(t, want)) {
			t.Errorf("%q: %v, %v", keys, conf, err)
		}
	}
	for _, key := range []string{"refresh.retain", "refresh.stop-timeout-max.x", "proxy", "refresh-mode.we", "."} {
		_, err := configstate.Get(st, "core", []string{"refresh", key})
		var none *configstate.NoOptionError
		if !errors.As(err, &none) || none.Key != key || none.Snap != "core" {
			t.Errorf("%q: %v", key, err)
		}
	}
	if d := configstate.StopTimeoutMax(st); d != 10*time.Second {
		t.Errorf("ceiling %s", d)
	}
	over, err := configstate.Override(st, "web")
	if err != nil || len(over) != 1 || over["srv"] != "endure" {
		t.Errorf("override %v, %v", over, err)
	}
}
