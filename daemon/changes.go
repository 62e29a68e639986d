// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"time"

	"endured/client"
	"endured/overlord/cutover"
	"endured/overlord/snapstate"
	"endured/overlord/state"
)

// publicData are the values of a change that the API shows. The others are the
// managers' own.
var publicData = []string{"snap-name", "snap-names"}

func noChange(id string) *response {
	return failed(http.StatusNotFound, "", fmt.Sprintf("cannot find change with id %q", id))
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// changeJSON describes a change as the caller may see it; the logs of its tasks
// are for root.
func changeJSON(c *call, ch *state.Change) client.Change {
	out := client.Change{
		ID: ch.ID(), Kind: ch.Kind(), Summary: c.text(ch.Summary()), Status: string(ch.Status()), Ready: ch.Ready(),
		SpawnTime: ch.SpawnTime(), ReadyTime: optionalTime(ch.ReadyTime()),
	}
	if err := ch.Err(); err != nil {
		out.Err = c.text(err.Error())
	}
	for _, t := range ch.Tasks() {
		p := t.Progress()
		task := client.Task{
			ID: t.ID(), Kind: t.Kind(), Summary: c.text(t.Summary()), Status: string(t.Status()),
			Progress:  client.Progress{Label: p.Label, Done: int64(p.Done), Total: int64(p.Total)},
			SpawnTime: t.SpawnTime(), ReadyTime: optionalTime(t.ReadyTime()),
		}
		if c.root() {
			task.Log = t.LogLines()
		}
		_ = t.Get("snap", &task.Snap) // not every task is about one
		out.Tasks = append(out.Tasks, task)
	}
	data := ch.Data()
	for _, key := range publicData {
		if v, ok := data[key]; ok {
			if out.Data == nil {
				out.Data = map[string]json.RawMessage{}
			}
			out.Data[key] = v
		}
	}
	completeNames(&out)
	out.Seen = fingerprint(out)
	return out
}

// completeNames gives a change about one snap both spellings of its name:
// clients of different age want one or the other.
func completeNames(ch *client.Change) {
	names := ch.SnapNames()
	if len(names) == 0 {
		return
	}
	if ch.Data["snap-names"] == nil {
		ch.Data["snap-names"], _ = json.Marshal(names) // strings cannot fail
	}
	if ch.Data["snap-name"] == nil && len(names) == 1 {
		ch.Data["snap-name"], _ = json.Marshal(names[0])
	}
}

// fingerprint names a state of a change.
func fingerprint(ch client.Change) string {
	h := fnv.New64a()
	if err := json.NewEncoder(h).Encode(ch); err != nil {
		return ""
	}
	return strconv.FormatUint(h.Sum64(), 16)
}

// change looks a change up, nil if there is none.
func (c *call) change(id string) (*client.Change, error) {
	var out *client.Change
	err := c.d.backend.State().View(func(tx *state.Tx) error {
		ch := tx.Change(id)
		if ch == nil {
			return nil
		}
		j := changeJSON(c, ch)
		out = &j
		if c.root() {
			var err error
			if out.Records, err = records(ch, j.SnapNames()); err != nil {
				return err
			}
			return addDeeds(ch, out)
		}
		return nil
	})
	return out, err
}

// records are what the change had planned for services, and did.
func records(ch *state.Change, names []string) ([]client.Record, error) {
	var out []client.Record
	for _, name := range names {
		plan, outcomes, err := cutover.RecordOf(ch, name)
		if err != nil {
			return nil, err
		}
		if plan == nil {
			continue
		}
		raw, err := json.Marshal(map[string]any{"snap": name, "plan": plan, "outcomes": outcomes})
		if err != nil {
			return nil, err
		}
		var r client.Record
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// addDeeds adds to each task what it asked of systemd.
func addDeeds(ch *state.Change, out *client.Change) error {
	for i, t := range ch.Tasks() {
		d, err := snapstate.DeedsOf(t)
		if err != nil {
			return err
		}
		for _, deed := range d.Deeds {
			out.Tasks[i].Systemd = append(out.Tasks[i].Systemd, client.Deed(deed))
		}
		out.Tasks[i].SystemdLeftOut = d.LeftOut
	}
	return nil
}

func getChange(c *call) *response {
	ch, err := c.change(c.PathValue("id"))
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	if ch == nil {
		return noChange(c.PathValue("id"))
	}
	return sync200(ch)
}

func getChanges(c *call) *response {
	q := c.URL.Query()
	sel := q.Get("select")
	switch sel {
	case "":
		sel = client.ChangesInProgress
	case client.ChangesAll, client.ChangesInProgress, client.ChangesReady:
	default:
		return badSelect(sel, "all", "in-progress", "ready")
	}
	wanted := q.Get("for")
	out := []client.Change{}
	err := c.d.backend.State().View(func(tx *state.Tx) error {
		for _, ch := range tx.Changes() {
			if sel != client.ChangesAll && ch.Ready() != (sel == client.ChangesReady) {
				continue
			}
			j := changeJSON(c, ch)
			if wanted == "" || slices.Contains(j.SnapNames(), wanted) {
				out = append(out, j)
			}
		}
		return nil
	})
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	return sync200(out)
}

// postChange aborts a change.
func postChange(c *call) *response {
	var r struct {
		Action string `json:"action"`
	}
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	if r.Action != "abort" {
		return badRequest("cannot %s a change: it can be aborted, no more", quoted(r.Action))
	}
	id := c.PathValue("id")
	ch, err := c.change(id)
	switch {
	case err != nil:
		return failureOr(err, http.StatusInternalServerError)
	case ch == nil:
		return noChange(id)
	case ch.Ready:
		return badRequest("cannot abort change %s with nothing pending", id)
	}
	if err := c.d.backend.Abort(id); err != nil {
		return failure(err)
	}
	return getChange(c)
}

// getDebug answers the aspects "change-timings" and "state".
func getDebug(c *call) *response {
	q := c.URL.Query()
	switch aspect := q.Get("aspect"); aspect {
	case "change-timings":
	case "state":
		return exportState(c)
	default:
		return badRequest("cannot tell %q for debugging: want change-timings or state", aspect)
	}
	id := q.Get("change-id")
	if id == "" {
		return badRequest("cannot find timings: no change-id")
	}
	var out []client.Timing
	err := c.d.backend.State().View(func(tx *state.Tx) error {
		ch := tx.Change(id)
		if ch == nil {
			return nil
		}
		end := ch.ReadyTime()
		if end.IsZero() {
			end = time.Now()
		}
		t := client.Timing{ChangeID: id, Total: end.Sub(ch.SpawnTime()), Tasks: map[string]client.TaskTiming{}}
		for _, task := range ch.Tasks() {
			t.Tasks[task.ID()] = client.TaskTiming{
				Status: string(task.Status()), Kind: task.Kind(), Summary: task.Summary(),
				DoingTime: task.DoingTime(), UndoingTime: task.UndoingTime(),
			}
		}
		out = append(out, t)
		return nil
	})
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	if len(out) == 0 {
		return noChange(id)
	}
	return sync200(out)
}
