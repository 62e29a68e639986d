// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"endured/client"
	"endured/overlord/recipes"
	"endured/overlord/state"
)

// statusNumbers are snapd's, as its state.json has them.
func statusNumber(s state.Status) int {
	for n, name := range []state.Status{"", state.Hold, state.Do, state.Doing, state.Done, state.Abort, state.Undo, state.Undoing, state.Undone, state.Error} {
		if name == s {
			return n
		}
	}
	return 0
}

// exported is the state in the schema of snapd's state.json, as far as there
// are such things here.
type exported struct {
	Data       exportedData              `json:"data"`
	Changes    map[string]exportedChange `json:"changes"`
	Tasks      map[string]exportedTask   `json:"tasks"`
	Warnings   []client.Warning          `json:"warnings,omitempty"`
	LastChange int                       `json:"last-change-id"`
	LastTask   int                       `json:"last-task-id"`
	LastLane   int                       `json:"last-lane-id"`
	LastNotice int                       `json:"last-notice-id"`
}

type exportedData struct {
	Seeded     bool                    `json:"seeded"`
	PatchLevel int                     `json:"patch-level"`
	Snaps      map[string]exportedSnap `json:"snaps"`
	// Config are the options of each snap, of the system as "core".
	Config map[string]any `json:"config,omitempty"`
}

type exportedSnap struct {
	Type     string         `json:"type"`
	Sequence []exportedSide `json:"sequence"`
	Active   bool           `json:"active,omitempty"`
	Current  string         `json:"current"`
	Channel  string         `json:"channel,omitempty"`
	DevMode  bool           `json:"devmode,omitempty"`
	JailMode bool           `json:"jailmode,omitempty"`
	Classic  bool           `json:"classic,omitempty"`
}

type exportedSide struct {
	Name     string `json:"name"`
	Revision string `json:"revision"`
	Channel  string `json:"channel,omitempty"`
}

type exportedChange struct {
	ID      string                     `json:"id"`
	Kind    string                     `json:"kind"`
	Summary string                     `json:"summary"`
	Status  int                        `json:"status"`
	Clean   bool                       `json:"clean,omitempty"`
	Data    map[string]json.RawMessage `json:"data,omitempty"`
	TaskIDs []string                   `json:"task-ids,omitempty"`
	Spawn   time.Time                  `json:"spawn-time"`
	Ready   time.Time                  `json:"ready-time,omitzero"`
}

type exportedTask struct {
	ID       string        `json:"id"`
	Kind     string        `json:"kind"`
	Summary  string        `json:"summary"`
	Status   int           `json:"status"`
	Waited   int           `json:"waited-status"`
	Clean    bool          `json:"clean,omitempty"`
	Waits    []string      `json:"wait-tasks,omitempty"`
	Halts    []string      `json:"halt-tasks,omitempty"`
	Lanes    []int         `json:"lanes,omitempty"`
	Log      []string      `json:"log,omitempty"`
	Change   string        `json:"change"`
	Spawn    time.Time     `json:"spawn-time"`
	Ready    time.Time     `json:"ready-time,omitzero"`
	DoTime   time.Duration `json:"doing-time,omitempty"`
	UndoTime time.Duration `json:"undoing-time,omitempty"`
}

// exportState answers the debug aspect "state", for uid 0.
func exportState(c *call) *response {
	if !c.root() {
		return denied(http.StatusForbidden)
	}
	views, err := c.d.backend.Snaps(c.Context(), nil, true)
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	out := &exported{
		Data:    exportedData{Seeded: true, PatchLevel: 6, Snaps: exportSnaps(views), Config: map[string]any{}},
		Changes: map[string]exportedChange{}, Tasks: map[string]exportedTask{},
	}
	if system, err := c.d.backend.Configuration("system", nil); err == nil && len(system) > 0 {
		out.Data.Config["core"] = system
	}
	for _, v := range views {
		if len(v.Record.Config) > 0 {
			out.Data.Config[v.Record.Name] = v.Record.Config
		}
	}
	warnings, err := c.d.warnings(true)
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	for _, w := range warnings {
		out.Warnings = append(out.Warnings, warningJSON(c, w))
	}
	err = c.d.backend.State().View(func(tx *state.Tx) error {
		for _, ch := range tx.Changes() {
			out.add(ch)
		}
		return nil
	})
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	return sync200(out)
}

func exportSnaps(views []recipes.SnapView) map[string]exportedSnap {
	out := map[string]exportedSnap{}
	for _, v := range views {
		s := out[v.Record.Name]
		s.Type, s.Active, s.Current, s.Channel = "app", v.Record.Active, v.Record.Current.String(), v.Record.Channel
		f := v.Record.Flags
		s.DevMode, s.JailMode, s.Classic = f.DevMode, f.JailMode, f.Classic
		s.Sequence = append(s.Sequence, exportedSide{Name: v.Record.Name, Revision: v.Rev.Revision.String(), Channel: v.Rev.Channel})
		out[v.Record.Name] = s
	}
	return out
}

func (out *exported) add(ch *state.Change) {
	last := func(at *int, id string) {
		if n, err := strconv.Atoi(id); err == nil {
			*at = max(*at, n)
		}
	}
	x := exportedChange{
		ID: ch.ID(), Kind: ch.Kind(), Summary: ch.Summary(), Status: statusNumber(ch.Status()), Clean: ch.Ready(),
		Data: ch.Data(), Spawn: ch.SpawnTime(), Ready: ch.ReadyTime(),
	}
	last(&out.LastChange, ch.ID())
	halts := map[string][]string{}
	tasks := ch.Tasks()
	for _, t := range tasks {
		for _, w := range t.WaitTasks() {
			halts[w] = append(halts[w], t.ID())
		}
	}
	for _, t := range tasks {
		x.TaskIDs = append(x.TaskIDs, t.ID())
		last(&out.LastTask, t.ID())
		for _, l := range t.Lanes() {
			out.LastLane = max(out.LastLane, l)
		}
		out.Tasks[t.ID()] = exportedTask{
			ID: t.ID(), Kind: t.Kind(), Summary: t.Summary(), Status: statusNumber(t.Status()), Clean: ch.Ready(),
			Waits: t.WaitTasks(), Halts: halts[t.ID()], Lanes: t.Lanes(), Log: t.LogLines(), Change: ch.ID(),
			Spawn: t.SpawnTime(), Ready: t.ReadyTime(), DoTime: t.DoingTime(), UndoTime: t.UndoingTime(),
		}
	}
	out.Changes[ch.ID()] = x
}
