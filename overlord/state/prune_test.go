// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func (f *fixture) count() (changes, tasks int) {
	f.view(func(tx *Tx) {
		changes = tx.b.Bucket(bucketChanges).Stats().KeyN
		tasks = tx.b.Bucket(bucketTasks).Stats().KeyN
	})
	return changes, tasks
}

func TestPruneByAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.r.AddHandler("a", nopHandler, nil)
		f.r.AddHandler("hang", func(ctx context.Context, _ *Task) (Commit, error) { <-ctx.Done(); return nil, ctx.Err() }, nil)
		f.r.AddHandler("later", func(context.Context, *Task) (Commit, error) { return nil, &Retry{After: 30 * 24 * time.Hour} }, nil)
		f.r.Start(t.Context())
		f.wait(f.chain("a", "a"))
		hanging, later := f.chain("hang"), f.chain("later", "a")
		f.update(func(tx *Tx) { tx.Warnf("old") })

		time.Sleep(23 * time.Hour)
		if c, n := f.count(); c != 3 || n != 5 {
			t.Errorf("%d changes, %d tasks after 23 h", c, n)
		}
		time.Sleep(2*time.Hour + time.Minute)
		if c, n := f.count(); c != 2 || n != 3 {
			t.Errorf("%d changes, %d tasks after 25 h", c, n)
		}
		time.Sleep(46 * time.Hour)
		f.check(later, Doing, "later:Doing a:Do")
		time.Sleep(2 * time.Hour)
		f.check(later, Hold, "later:Hold a:Hold")
		f.check(hanging, Doing, "hang:Doing") // its handler runs
		time.Sleep(25 * time.Hour)
		if c, n := f.count(); c != 1 || n != 1 {
			t.Errorf("%d changes, %d tasks in the end", c, n)
		}
		time.Sleep(28 * 24 * time.Hour)
		f.view(func(tx *Tx) {
			if n := tx.b.Bucket(bucketWarnings).Stats().KeyN; n != 0 {
				t.Errorf("%d warnings are stored", n)
			}
		})
	})
}

func TestPruneAtStartAndByNumber(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.update(func(tx *Tx) {
		for i := range pruneMax + 7 {
			c := tx.NewChange("x", fmt.Sprint(i))
			if i == 0 {
				c.AddTask(tx.NewTask("later", "l")) // is not ready and stays
				continue
			}
			c.SetDone()
		}
	})
	f.r.AddHandler("later", func(context.Context, *Task) (Commit, error) { return nil, &Retry{After: time.Hour} }, nil)
	pruned := make(chan struct{}, 1)
	f.s.watch(func(p *published) {
		if len(p.changes) == 6 {
			pruned <- struct{}{}
		}
	})
	f.r.Start(t.Context())
	<-pruned
	f.view(func(tx *Tx) {
		all := tx.Changes()
		if len(all) != pruneMax+1 || all[0].Ready() || all[1].Summary() != "7" {
			t.Errorf("%d changes are left, first %q", len(all), all[1].Summary())
		}
	})
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		pending := func() (n int) {
			f.view(func(tx *Tx) {
				for _, w := range tx.Warnings() {
					if w.Pending() {
						n++
					}
				}
			})
			return n
		}
		warn := func(text string) { f.update(func(tx *Tx) { tx.Warnf("%s", text) }) }
		okay := func(upto time.Time) (n int) {
			f.update(func(tx *Tx) { n = tx.Okay(upto) })
			return n
		}
		begin := time.Now()
		warn("one")
		time.Sleep(time.Hour)
		seen := time.Now()
		time.Sleep(time.Hour)
		warn("two")
		warn("")
		if n := pending(); n != 2 {
			t.Errorf("%d pending, want 2", n)
		}
		if n := okay(seen); n != 1 || pending() != 1 {
			t.Errorf("%d okayed, want 1: two came after what was seen", n)
		}
		warn("one")
		if n := pending(); n != 1 {
			t.Errorf("%d pending, want 1: one is quiet for a day", n)
		}
		time.Sleep(24 * time.Hour)
		warn("one")
		if n := pending(); n != 2 {
			t.Errorf("%d pending, want 2: one came again", n)
		}
		f.view(func(tx *Tx) {
			all := tx.Warnings()
			if all[0].Message != "one" || !all[0].FirstAdded.Equal(begin) || !all[0].LastAdded.Equal(time.Now()) || !all[0].LastShown.Equal(seen) {
				t.Errorf("got %+v", all[0])
			}
		})
		time.Sleep(28*24*time.Hour + 1)
		if n := pending(); n != 0 {
			t.Errorf("%d pending, want 0", n)
		}
		warn("one")
		f.view(func(tx *Tx) {
			all := tx.Warnings()
			if len(all) != 1 || !all[0].FirstAdded.Equal(time.Now()) {
				t.Errorf("an expired warning came back to life: %+v", all)
			}
		})
	})
}
