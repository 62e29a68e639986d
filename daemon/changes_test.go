// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"endured/client"
	"endured/overlord/state"
)

func TestChanges(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	one := f.newChange("install-snap", "probe")
	two := f.newChange("remove-snap", "other")
	if _, err := f.client.Abort(ctx, two); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sel, name string
		want      []string
	}{
		{client.ChangesAll, "", []string{one, two}},
		{client.ChangesInProgress, "", []string{one}},
		{client.ChangesReady, "", []string{two}},
		{client.ChangesAll, "other", []string{two}},
		{client.ChangesAll, "nosuch", nil},
	} {
		list, err := f.client.Changes(ctx, c.sel, c.name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, ch := range list {
			got = append(got, ch.ID)
		}
		if len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
			t.Errorf("%s %q: %v, want %v", c.sel, c.name, got, c.want)
		}
	}
	ch, err := f.client.Change(ctx, two)
	if err != nil || ch.Status != "Hold" || !ch.Ready || ch.ReadyTime == nil || ch.Kind != "remove-snap" {
		t.Errorf("aborted change: %+v, %v", ch, err)
	}
	_, err = f.client.Abort(ctx, two)
	if e := refusal(t, err); e.StatusCode != 400 || e.Message != "cannot abort change "+two+" with nothing pending" {
		t.Errorf("second abort: %+v", e)
	}
	timing, err := f.client.Timings(ctx, one)
	if err != nil || timing.ChangeID != one || len(timing.Tasks) != 1 || timing.Tasks["1"].Kind != "some-task" {
		t.Errorf("timings: %+v, %v", timing, err)
	}
}

func TestWaitChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	id := f.newChange("install-snap", "probe")
	began := time.Now()
	var seen []string
	ch, err := f.client.WaitChange(ctx, id, func(ch *client.Change) {
		switch seen = append(seen, ch.Status+"/"+ch.Tasks[0].Progress.Label); len(seen) {
		case 1: // progress alone ends a wait
			err := f.state.View(func(tx *state.Tx) error {
				tx.Task("1").SetProgress("data", 3, 10)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		case 2:
			if err := f.Abort(id); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || ch.Status != "Hold" {
		t.Fatalf("WaitChange: %+v, %v", ch, err)
	}
	if len(seen) != 3 || seen[0] != "Do/" || seen[1] != "Do/data" || seen[2] != "Hold/" {
		t.Errorf("reported %q", seen)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("waited %v for what had happened", took)
	}
	if err := ch.Failed(); err == nil || err.Error() != `the change is "Hold", and does not say why` {
		t.Errorf("Failed: %v", err)
	}
	if _, err := f.client.WaitChange(ctx, "99", nil); refusal(t, err).StatusCode != 404 {
		t.Errorf("wait for no change: %v", err)
	}
}

func TestShutdownEndsWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.newChange("install-snap", "probe")
	ch, err := f.client.Change(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan int, 1)
	go func() {
		status, _ := f.raw("GET", "/v2/changes/"+id+"/wait?timeout=1m&seen="+ch.Seen, "", nil)
		waiting <- status
	}()
	select {
	case s := <-waiting:
		t.Fatalf("the wait ended at once: %d", s)
	case <-time.After(100 * time.Millisecond):
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := f.daemon.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if s := <-waiting; s != 200 {
		t.Errorf("the wait ended with %d", s)
	}
}

// TestProgressIsCollected: a task that reports a thousand times costs a client
// that watches few answers, and the last report is among them.
func TestProgressIsCollected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.newChange("install-snap", "probe")
	var task *state.Task
	if err := f.state.View(func(tx *state.Tx) error { task = tx.Task("1"); return nil }); err != nil {
		t.Fatal(err)
	}
	const last = 1000
	answers := 0
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := f.client.WaitChange(ctx, id, func(ch *client.Change) {
		if answers++; answers == 1 {
			go func() {
				for n := 1; n <= last; n++ {
					task.SetProgress("data", n, last)
				}
			}()
		}
		if ch.Tasks[0].Progress.Done == last {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the last report did not come: %v", err)
	}
	if answers < 2 || answers > last/10 {
		t.Errorf("%d answers to %d reports", answers, last)
	}
}

// TestWarningEndsNoticesWait: nothing but the warning happens.
func TestWarningEndsNoticesWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	answer := make(chan string, 1)
	go func() {
		_, body := f.raw("GET", "/v2/notices?types=warning&timeout=1m", "", nil)
		answer <- body
	}()
	for n := 0; ; n++ { // the first may come before the wait begins
		if err := f.state.Update(func(tx *state.Tx) error { tx.Warnf("warning %d", n); return nil }); err != nil {
			t.Fatal(err)
		}
		select {
		case body := <-answer:
			if !strings.Contains(body, `"type":"warning"`) {
				t.Errorf("answer: %s", body)
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
		if n == 200 {
			t.Fatal("the wait did not end")
		}
	}
}
