// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"endured/client"
	"endured/overlord/state"
)

// The types of notices that there are.
const (
	noticeChange  = "change-update"
	noticeWarning = "warning"
)

// noticeQuery says which notices are asked for.
type noticeQuery struct {
	types, keys []string
	after       time.Time
}

func (q *noticeQuery) wants(n *client.Notice) bool {
	return (len(q.types) == 0 || slices.Contains(q.types, n.Type)) &&
		(len(q.keys) == 0 || slices.Contains(q.keys, n.Key)) && n.LastRepeated.After(q.after)
}

// notices are what has happened, oldest first. They are made from the changes
// and the warnings as they are: their ids say of which.
func (c *call) notices(q *noticeQuery) ([]client.Notice, error) {
	out := []client.Notice{}
	add := func(n client.Notice) {
		if q.wants(&n) {
			out = append(out, n)
		}
	}
	err := c.d.backend.State().View(func(tx *state.Tx) error {
		for _, ch := range tx.Changes() {
			kind, _ := json.Marshal(map[string]string{"kind": ch.Kind()})
			last := lastMoved(ch)
			add(client.Notice{ID: "change-" + ch.ID(), Type: noticeChange, Key: ch.ID(), FirstOccurred: ch.SpawnTime(),
				LastOccurred: last, LastRepeated: last, Occurrences: 1, LastData: kind, ExpireAfter: "168h0m0s"})
		}
		if !c.root() {
			return nil
		}
		for _, w := range tx.Warnings() {
			add(client.Notice{ID: "warning-" + w.FirstAdded.Format("20060102150405.000000000"), Type: noticeWarning, Key: w.Message,
				FirstOccurred: w.FirstAdded, LastOccurred: w.LastAdded, LastRepeated: w.LastAdded, Occurrences: 1,
				ExpireAfter: w.ExpireAfter.String(), RepeatAfter: w.RepeatAfter.String()})
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b client.Notice) int { return a.LastRepeated.Compare(b.LastRepeated) })
	return out, err
}

// lastMoved is when the change was last seen to come along.
func lastMoved(ch *state.Change) time.Time {
	last := ch.SpawnTime()
	for _, t := range ch.Tasks() {
		if r := t.ReadyTime(); r.After(last) {
			last = r
		}
	}
	if r := ch.ReadyTime(); r.After(last) {
		last = r
	}
	return last
}

// getNotices lists notices; with a timeout it waits for one if there is none.
func getNotices(c *call) *response {
	v := c.URL.Query()
	q := &noticeQuery{types: commaList(strings.Join(v["types"], ",")), keys: v["keys"]}
	var timeout time.Duration
	var err error
	if s := v.Get("after"); s != "" {
		if q.after, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return badRequest("cannot use after=%q: want a time such as 2026-01-31T10:00:00.5Z", s)
		}
	}
	if s := v.Get("timeout"); s != "" {
		if timeout, err = time.ParseDuration(s); err != nil || timeout < 0 {
			return badRequest("cannot use timeout=%q: want a duration such as 10s", s)
		}
	}
	happened := newEvent()
	defer c.d.backend.State().AddChangeWatcher(func(string) { happened.happen() })()
	defer c.d.backend.State().AddWarningWatcher(happened.happen)()
	deadline := time.NewTimer(min(timeout, longestWait))
	defer deadline.Stop()
	for over := timeout == 0; ; {
		list, err := c.notices(q)
		switch {
		case err != nil:
			return failureOr(err, http.StatusInternalServerError)
		case len(list) > 0 || over:
			return sync200(list)
		}
		over = c.await(deadline.C, happened, nil) == nil
	}
}

func getNotice(c *call) *response {
	list, err := c.notices(&noticeQuery{})
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	id := c.PathValue("id")
	for _, n := range list {
		if n.ID == id {
			return sync200(n)
		}
	}
	return failed(http.StatusNotFound, "", "cannot find notice "+quoted(id))
}
