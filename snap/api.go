// SPDX-License-Identifier: Apache-2.0

package snap

// Epoch is the read/write epochs of a revision.
type Epoch struct {
	Read  []uint32 `json:"read"`
	Write []uint32 `json:"write"`
}
