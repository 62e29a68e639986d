// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Change is something that the daemon does or did, made of tasks.
type Change struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Summary string `json:"summary"`
	Status  string `json:"status"` // Do Doing Done Abort Undo Undoing Undone Hold Error
	Tasks   []Task `json:"tasks,omitempty"`
	Ready   bool   `json:"ready"`
	Err     string `json:"err,omitempty"`

	SpawnTime time.Time  `json:"spawn-time,omitzero"`
	ReadyTime *time.Time `json:"ready-time,omitempty"`

	// Data holds what the change is about: "snap-name", "snap-names".
	Data map[string]json.RawMessage `json:"data,omitempty"`
	// Records (additive) are what was planned for the services of each snap, and
	// what happened; for uid 0, of a single change.
	Records []Record `json:"records,omitempty"`
	// Seen (additive) names this state of the change: see Client.WaitChange.
	Seen string `json:"seen,omitempty"`
}

// Record (additive) is what a change did to the services of one snap.
type Record struct {
	Snap     string    `json:"snap"`
	Plan     *Plan     `json:"plan"`
	Outcomes []Outcome `json:"outcomes,omitempty"` // none before the switch is over
}

// Outcome (additive) is what happened to one service. Revisions are "unset" or
// "" where there is none.
type Outcome struct {
	App           string  `json:"app"`
	Action        string  `json:"action"` // as in Step
	OldPID        int     `json:"old-pid,omitempty"`
	NewPID        int     `json:"new-pid,omitempty"`
	From          string  `json:"from,omitempty"`
	To            string  `json:"to,omitempty"`
	GapMS         float64 `json:"gap-ms,omitempty"`    // between the two main processes
	FrozenMS      float64 `json:"frozen-ms,omitempty"` // that the others stood still
	StoppedByHand bool    `json:"stopped-by-hand,omitempty"`
}

// Task is one step of a change.
type Task struct {
	ID       string   `json:"id"`
	Kind     string   `json:"kind"`
	Summary  string   `json:"summary"`
	Status   string   `json:"status"`
	Log      []string `json:"log,omitempty"` // newest last; for uid 0 only
	Progress Progress `json:"progress"`

	SpawnTime time.Time  `json:"spawn-time,omitzero"`
	ReadyTime *time.Time `json:"ready-time,omitempty"`

	// Snap (additive) is the one that the task works on, "" if it is not about one.
	Snap string `json:"snap,omitempty"`
	// Systemd (additive) is what the task asked of systemd, in the order of the
	// requests; for uid 0, of a single change. SystemdLeftOut counts what is not
	// listed: more than 100 that went well and 100 that did not are not kept.
	Systemd        []Deed `json:"systemd,omitempty"`
	SystemdLeftOut int    `json:"systemd-left-out,omitempty"`
}

// Deed (additive) is one thing that was asked of systemd.
type Deed struct {
	// What is a job's verb ("start", "stop", "restart", "reload"), or "signal",
	// "freeze", "thaw", "daemon-reload".
	What   string `json:"what"`
	Unit   string `json:"unit,omitempty"`
	Signal string `json:"signal,omitempty"` // such as "SIGTERM"
	To     string `json:"to,omitempty"`     // whom the signal went to: "main" or "all"
	// Result is a job's as systemd names it ("done", "canceled", "failed", …),
	// "refused", or "" for what was not over when the task was.
	Result string    `json:"result,omitempty"`
	At     time.Time `json:"at"`
	MS     float64   `json:"ms,omitempty"` // from the request to its end
}

// Progress is how far a task is. A total of 1 means that it cannot tell.
type Progress struct {
	Label string `json:"label"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// SnapNames returns the snaps that the change is about.
func (c *Change) SnapNames() []string {
	var names []string
	if json.Unmarshal(c.Data["snap-names"], &names) == nil && len(names) > 0 {
		return names
	}
	var name string
	if json.Unmarshal(c.Data["snap-name"], &name) == nil && name != "" {
		return []string{name}
	}
	return nil
}

// Succeeded returns the snaps for which everything was done: all of them, or
// those whose tasks did not fail with the others.
func (c *Change) Succeeded() []string {
	var out []string
	for _, name := range c.SnapNames() {
		ok := c.Ready
		for _, t := range c.Tasks {
			if t.Snap == name && t.Status != "Done" || t.Snap == "" && c.Status != "Done" {
				ok = false
			}
		}
		if ok {
			out = append(out, name)
		}
	}
	return out
}

// Which changes to list.
const (
	ChangesAll        = "all"
	ChangesReady      = "ready"
	ChangesInProgress = "in-progress"
)

// Changes lists changes, oldest first; sel is one of the constants above and
// snapName, if not "", limits the list to one snap.
func (c *Client) Changes(ctx context.Context, sel, snapName string) ([]Change, error) {
	q := url.Values{"select": {sel}}
	if snapName != "" {
		q.Set("for", snapName)
	}
	var out []Change
	err := c.get(ctx, "/v2/changes", q, &out)
	return out, err
}

// Change returns one change with its tasks.
func (c *Client) Change(ctx context.Context, id string) (*Change, error) {
	var out Change
	if err := c.get(ctx, "/v2/changes/"+url.PathEscape(id), nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Abort asks the daemon to abort a change and undo what it did.
func (c *Client) Abort(ctx context.Context, id string) (*Change, error) {
	var out Change
	err := c.post(ctx, "/v2/changes/"+url.PathEscape(id), map[string]string{"action": "abort"}, &out)
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// pollEvery is how often a daemon without the wait endpoint is asked.
const pollEvery = 100 * time.Millisecond

// WaitChange waits until a change is ready, and returns it. report, if not
// nil, is called with the change whenever a status, a log or the progress of
// it changed. A daemon that goes away is awaited for two minutes. The error is
// about the waiting: a change that failed is returned like any other, see
// Change.Failed.
func (c *Client) WaitChange(ctx context.Context, id string, report func(*Change)) (*Change, error) {
	seen, polling := "", false
	for {
		r := request{method: http.MethodGet, path: "/v2/changes/" + url.PathEscape(id), patience: waitPatience}
		if !polling {
			r.path += "/wait"
			r.query = url.Values{"timeout": {"10s"}, "seen": {seen}}
		}
		var ch Change
		_, err := c.do(ctx, r, &ch)
		var refusal *Error
		if errors.As(err, &refusal) && refusal.StatusCode == http.StatusNotFound && refusal.Kind == "" && !polling {
			// Either there is no such change, or this daemon has no such endpoint.
			polling = true
			continue
		}
		if err != nil {
			return nil, err
		}
		if report != nil && (seen == "" || ch.Seen != seen) {
			report(&ch)
		}
		if ch.Ready {
			return &ch, nil
		}
		seen = ch.Seen
		if !polling {
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// Failed returns nil if the change is done, and otherwise why it is not.
func (c *Change) Failed() error {
	switch {
	case c.Status == "Done":
		return nil
	case c.Err != "":
		return errors.New(c.Err)
	}
	return fmt.Errorf("the change is %q, and does not say why", c.Status)
}

// Timing is how long the tasks of a change took.
type Timing struct {
	ChangeID string                `json:"change-id"`
	Total    time.Duration         `json:"total-duration"`
	Tasks    map[string]TaskTiming `json:"change-timings"`
}

// TaskTiming is how long one task took, in nanoseconds on the wire.
type TaskTiming struct {
	Status      string        `json:"status"`
	Kind        string        `json:"kind"`
	Summary     string        `json:"summary"`
	DoingTime   time.Duration `json:"doing-time,omitempty"`
	UndoingTime time.Duration `json:"undoing-time,omitempty"`
}

// Timings returns how long a change and its tasks took.
func (c *Client) Timings(ctx context.Context, id string) (*Timing, error) {
	var out []Timing
	q := url.Values{"aspect": {"change-timings"}, "change-id": {id}}
	if err := c.get(ctx, "/v2/debug", q, &out); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("cannot find how long change %q took", id)
	}
	return &out[0], nil
}

// State (additive) returns the daemon's state in the schema of snapd's
// state.json.
func (c *Client) State(ctx context.Context) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.get(ctx, "/v2/debug", url.Values{"aspect": {"state"}}, &out)
	return out, err
}

// Warning is something that an operator should know.
type Warning struct {
	Message     string     `json:"message"`
	FirstAdded  time.Time  `json:"first-added"`
	LastAdded   time.Time  `json:"last-added"`
	LastShown   *time.Time `json:"last-shown,omitempty"`
	ExpireAfter string     `json:"expire-after,omitempty"` // a Go duration
	RepeatAfter string     `json:"repeat-after,omitempty"`
}

// Warnings lists what was not acknowledged yet, or everything.
func (c *Client) Warnings(ctx context.Context, all bool) ([]Warning, error) {
	q := url.Values{}
	if all {
		q.Set("select", "all")
	}
	var out []Warning
	err := c.get(ctx, "/v2/warnings", q, &out)
	return out, err
}

// Okay acknowledges the warnings that were added up to a time.
func (c *Client) Okay(ctx context.Context, upto time.Time) error {
	return c.post(ctx, "/v2/warnings", map[string]any{"action": "okay", "timestamp": upto}, nil)
}
