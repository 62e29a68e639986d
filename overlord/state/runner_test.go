// SPDX-License-Identifier: Apache-2.0

package state

import "testing"

func TestChain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	j.handle(f.r, "a b c", "")
	f.r.Start(t.Context())
	id := f.chain("a", "b", "c")
	f.wait(id)
	f.check(id, Done, "a:Done b:Done c:Done")
	if j.String() != "+a +b +c" {
		t.Errorf("got %s", &j)
	}
}

func TestErrorUndoes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var j journal
	j.handle(f.r, "a b c d", "c")
	f.r.Start(t.Context())
	id := f.chain("a", "b", "c", "d")
	f.wait(id)
	f.check(id, Error, "a:Undone b:Undone c:Error d:Hold")
	if j.String() != "+a +b -b -a" {
		t.Errorf("got %s", &j)
	}
	f.view(func(tx *Tx) {
		want := "cannot perform the following tasks:\n- Task c (cannot c)"
		if err := tx.Change(id).Err(); err == nil || err.Error() != want {
			t.Errorf("got %v", err)
		}
	})
}
