// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"slices"
	"testing"
)

func TestSealLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec Spec
		want []string
	}{
		{Spec{Capabilities: []string{"CAP_NET_ADMIN"}}, nil},
		{Spec{Capabilities: []string{"CAP_SYS_ADMIN", "CAP_KILL"}}, []string{"an interface gives it CAP_SYS_ADMIN"}},
		{Spec{Capabilities: []string{"CAP_SYS_ADMIN"}, Unsealable: []string{"it may mount"}}, []string{"it may mount"}},
	} {
		if got := c.spec.SealLimits(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q", c.spec, got)
		}
	}
}
