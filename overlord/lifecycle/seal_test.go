// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"reflect"
	"testing"

	"endured/snap"
)

// TestSealLimits: what is said of an app that does not stay is left out, and a
// classic snap is not sealed at all.
func TestSealLimits(t *testing.T) {
	t.Parallel()
	const yaml = "name: web\nversion: '1'\nsummary: s\ndescription: d\nconfinement: strict\n" +
		"apps:\n  stay: {command: bin/x, daemon: simple, refresh-mode: endure}\n  go: {command: bin/x, daemon: simple}\n"
	for conf, want := range map[string]*SealStep{
		"strict":  {Revision: 1, Limits: []SealLimit{{"stay", "it may mount"}}},
		"classic": {Revision: 1, Why: ClassicSeal},
	} {
		old := parse(t, yaml, conf, 1)
		p, err := Decide(Input{
			Event: Refresh, Old: old, New: parse(t, yaml, conf, 2),
			SealLimits: map[string][]string{"stay": {"it may mount"}, "go": {"it may, too"}},
			Observed: Observed{Services: map[string]Service{
				"stay": {Running: true, Revision: 1, MainPID: 5, Enabled: true}, "go": {Running: true, Revision: 1, MainPID: 6, Enabled: true},
			}},
		})
		if err != nil || !reflect.DeepEqual(p.Seal, want) {
			t.Errorf("%s: %+v, %v", conf, p.Seal, err)
		}
	}
}

func parse(t *testing.T, yaml, confinement string, rev snap.Revision) *snap.Info {
	t.Helper()
	info, err := snap.Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	info.Confinement, info.Revision = confinement, rev
	return info
}
