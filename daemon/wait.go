// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/http"
	"time"
)

const (
	// longestWait bounds how long a request that waits is left open.
	longestWait = time.Minute
	// calm is for how long progress and log lines, which may come by the
	// thousand, are collected before a waiting request is answered.
	calm = 100 * time.Millisecond
)

// event is something to wait for; that it happened twice is the same as once.
type event chan struct{}

func newEvent() event { return make(event, 1) }

// happen wakes who waits, or will. It never blocks.
func (e event) happen() {
	select {
	case e <- struct{}{}:
	default:
	}
}

// await returns which of the events, either of which may be nil, has happened.
// It returns nil when it is time to answer without: at the deadline, when the
// daemon stops, and when the client has gone.
func (c *call) await(deadline <-chan time.Time, one, other event) event {
	select {
	case <-one:
		return one
	case <-other:
		return other
	case <-deadline:
	case <-c.d.stopping:
	case <-c.Context().Done():
	}
	return nil
}

// waitChange answers once the change is not as the client has "seen" it, or
// after "timeout" as it is.
func waitChange(c *call) *response {
	id, q := c.PathValue("id"), c.URL.Query()
	timeout := 10 * time.Second
	if s := q.Get("timeout"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return badRequest("cannot use timeout=%q: want a duration such as 10s", s)
		}
		timeout = min(d, longestWait)
	}
	status, activity := newEvent(), newEvent()
	of := func(e event) func(string) {
		return func(changed string) {
			if changed == id {
				e.happen()
			}
		}
	}
	defer c.d.backend.State().AddChangeWatcher(of(status))()
	defer c.d.backend.State().AddActivityWatcher(of(activity))()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for over := false; ; {
		ch, err := c.change(id)
		switch {
		case err != nil:
			return failureOr(err, http.StatusInternalServerError)
		case ch == nil:
			return noChange(id)
		case over, ch.Ready, ch.Seen != q.Get("seen"):
			return sync200(ch)
		}
		switch c.await(deadline.C, status, activity) {
		case nil:
			over = true
		case activity:
			c.await(time.After(calm), status, nil)
		}
	}
}
