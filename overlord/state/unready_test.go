// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

func (f *fixture) unready() string {
	f.t.Helper()
	var ids []string
	f.view(func(tx *Tx) {
		for _, c := range tx.Unready() {
			ids = append(ids, c.ID())
		}
	})
	return strings.Join(ids, " ")
}

func TestUnready(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.r.AddHandler("a", func(context.Context, *Task) (Commit, error) { return nil, nil }, nil)
	first, second := f.chain("a"), f.chain("a")
	f.change(func(_ *Tx, c *Change) { c.SetDone() })
	want := first + " " + second
	if got := f.unready(); got != want {
		t.Errorf("unready: %q, want %q", got, want)
	}
	f.update(func(tx *Tx) {
		c := tx.NewChange("test", "In this transaction")
		c.AddTask(tx.NewTask("a", "A"))
		if n := len(tx.Unready()); n != 3 {
			t.Errorf("%d unready changes in the transaction that makes the third", n)
		}
		c.Abort()
		if n := len(tx.Unready()); n != 2 {
			t.Errorf("%d unready changes after an abort in the transaction, want 2", n)
		}
	})

	// a file without the index gets one, of those that are not ready only
	if err := f.s.db.Update(func(b *bbolt.Tx) error { return b.DeleteBucket(bucketUnready) }); err != nil {
		t.Fatal(err)
	}
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	f.open(nil)
	f.r.AddHandler("a", func(context.Context, *Task) (Commit, error) { return nil, nil }, nil)
	if got := f.unready(); got != want {
		t.Errorf("unready after the index was made: %q, want %q", got, want)
	}

	f.r.Start(context.Background())
	f.wait(first)
	f.wait(second)
	if got := f.unready(); got != "" {
		t.Errorf("unready after all ran: %q", got)
	}
}
