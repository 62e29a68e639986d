// SPDX-License-Identifier: Apache-2.0

package ifacestate

import (
	"endured/interfaces"
	"endured/overlord/state"
)

// IsConnected tells whether a plug or slot of a snap is connected. It goes by
// what is recorded: the snap may be about to be installed.
func (m *Manager) IsConnected(snapName, plugOrSlot string) (is bool, err error) {
	end := interfaces.End{Snap: snapName, Name: plugOrSlot}
	err = m.State.View(func(tx *state.Tx) error {
		refs, err := conns(tx)
		if err != nil {
			return err
		}
		for id, c := range refs {
			ref, err := interfaces.ParseConnRef(id)
			if err != nil {
				return err
			}
			is = is || !c.Undesired && (ref.Plug == end || ref.Slot == end)
		}
		return nil
	})
	return is, err
}
