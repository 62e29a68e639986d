// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"testing"
)

func TestRecipes(t *testing.T) {
	t.Parallel()
	lib := newLibrary(t)
	m := newMachine(t, lib)
	m.done(m.install("v1"))
	m.sound()
	k, s := m.pid(keeper), m.pid(svc)
	m.done(m.install("v2"))
	m.sound()
	if m.pid(keeper) != k || m.pid(svc) == s {
		t.Errorf("keeper %d to %d, svc %d to %d", k, m.pid(keeper), s, m.pid(svc))
	}
	m.done(m.install("v3"))
	m.sound()
	m.done(m.o.Revert(t.Context(), "demo", 0))
	m.sound()
	m.done(m.remove())
	m.sound()
}
