// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"encoding/json"
	"os"
	"testing"

	"endured/daemon"
	"endured/overlord/recipes"
	"endured/overlord/state"
)

// TestExportState reads the state in the schema of snapd's state.json, whose
// keys and numbers are written out here.
func TestExportState(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	view := probeView(-2, true)
	view.Record.Config = json.RawMessage(`{"port":80}`)
	f.snaps = []recipes.SnapView{view}
	f.conf = map[string]any{"refresh": map[string]any{"retain": "3"}}
	id := f.newChange("install-snap", "probe")
	if err := f.state.Update(func(tx *state.Tx) error { tx.Warnf("be warned"); return nil }); err != nil {
		t.Fatal(err)
	}
	raw, err := f.client.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Data struct {
			Seeded bool `json:"seeded"`
			Patch  int  `json:"patch-level"`
			Snaps  map[string]struct {
				Type     string                                         `json:"type"`
				Sequence []struct{ Name, Revision, Channel, ID string } `json:"sequence"`
				Active   bool                                           `json:"active"`
				Current  string                                         `json:"current"`
			} `json:"snaps"`
			Config map[string]map[string]any `json:"config"`
		} `json:"data"`
		Changes map[string]struct {
			ID, Kind, Summary string
			Status            int
			Tasks             []string `json:"task-ids"`
			Spawn             string   `json:"spawn-time"`
		} `json:"changes"`
		Tasks map[string]struct {
			ID, Kind, Change string
			Status           int
			Waited           *int `json:"waited-status"`
			Log              []string
		} `json:"tasks"`
		Warnings []struct {
			Message string
			Expire  string `json:"expire-after"`
		} `json:"warnings"`
		LastChange int  `json:"last-change-id"`
		LastTask   int  `json:"last-task-id"`
		LastNotice *int `json:"last-notice-id"`
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	s, ch, task := got.Data.Snaps["probe"], got.Changes[id], got.Tasks["1"]
	const do = 2 // snapd's number of "Do"
	switch {
	case !got.Data.Seeded, got.Data.Patch == 0, s.Type != "app", len(s.Sequence) != 1, s.Sequence[0].Revision != "x2", s.Sequence[0].Name != "probe",
		got.Data.Config["core"]["refresh"] == nil, got.Data.Config["probe"]["port"] != 80.0:
		t.Errorf("data: %+v", got.Data)
	case ch.ID != id, ch.Kind != "install-snap", ch.Status != do, len(ch.Tasks) != 1, ch.Tasks[0] != "1", ch.Spawn == "":
		t.Errorf("change: %+v", ch)
	case task.ID != "1", task.Kind != "some-task", task.Change != id, task.Status != do, task.Waited == nil, len(task.Log) != 1:
		t.Errorf("task: %+v", task)
	case len(got.Warnings) != 1, got.Warnings[0].Message != "be warned", got.Warnings[0].Expire == "":
		t.Errorf("warnings: %+v", got.Warnings)
	case got.LastChange != 1, got.LastTask != 1, got.LastNotice == nil:
		t.Errorf("last: %+v", got)
	}
	f.as(daemon.Peer{UID: 1000, PID: os.Getpid(), Accepted: now()})
	if _, err := f.newClient().State(t.Context()); refusal(t, err).StatusCode != 403 {
		t.Errorf("as a user: %v", err)
	}
}
