// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"slices"
	"testing"
)

// TestHookPlugs binds plugs to hooks: those that they name, and those that
// nobody names.
func TestHookPlugs(t *testing.T) {
	t.Parallel()
	i, err := Parse([]byte(head + `
plugs: {network: , home: , log-observe: }
apps: {a: {command: bin/a, plugs: [home]}}
hooks:
  install: {plugs: [log-observe], command-chain: [bin/wrap], environment: {A: b}}
  configure:
`))
	if err != nil {
		t.Fatal(err)
	}
	i.AddHooks("configure", "remove")
	for name, want := range map[string][]string{
		"install": {"log-observe", "network"}, "configure": {"network"}, "remove": {"network"},
	} {
		if h := i.Hooks[name]; h == nil || !slices.Equal(h.Plugs, want) {
			t.Errorf("%s: %+v, want plugs %v", name, h, want)
		}
	}
	if h := i.Hooks["install"]; !slices.Equal(h.CommandChain, []string{"bin/wrap"}) || len(h.Environment) != 1 {
		t.Errorf("%+v", h)
	}
}
