// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"errors"
	"slices"

	"endured/overlord/state"
	"endured/snap"
)

// leavingKey and a snap's name: the revisions that were to be discarded and
// that something still used.
const leavingKey = "leaving/"

// Leaving lists, by snap, the revisions that are to be discarded as soon as
// nothing uses them any more.
func Leaving(tx *state.Tx) (map[string][]snap.Revision, error) {
	keys, err := tx.Keys(leavingKey)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]snap.Revision, len(keys))
	for _, k := range keys {
		var revs []snap.Revision
		if err := tx.Get(k, &revs); err != nil {
			return nil, err
		}
		out[k[len(leavingKey):]] = revs
	}
	return out, nil
}

// Stays takes a revision that has become current off the list.
func Stays(tx *state.Tx, rec *Record, rev snap.Revision) error {
	return setLeaving(tx, rec, nil, []snap.Revision{rev})
}

// setLeaving keeps the list of one snap: those of stay, and those that were on
// it before and are neither gone nor current.
func setLeaving(tx *state.Tx, rec *Record, stay, gone []snap.Revision) error {
	var revs []snap.Revision
	if err := tx.Get(leavingKey+rec.Name, &revs); err != nil && !errors.Is(err, state.ErrNoState) {
		return err
	}
	for _, r := range stay {
		if !slices.Contains(revs, r) {
			revs = append(revs, r)
		}
	}
	revs = slices.DeleteFunc(revs, func(r snap.Revision) bool { return r == rec.Current || slices.Contains(gone, r) })
	if len(revs) == 0 {
		return tx.Delete(leavingKey + rec.Name)
	}
	return tx.Set(leavingKey+rec.Name, revs)
}
