// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"endured/client"
)

func TestParagraph(t *testing.T) {
	t.Parallel()
	r := &client.Record{Snap: "web", Plan: &client.Plan{Event: "refresh", Snap: "web", From: "6", To: "7", Services: []client.Step{
		{App: "srv", Action: "restart", Why: "restart is the default"},
		{App: "mgr", Action: "keep", Why: "refresh-mode is endure"},
		{App: "heir", Action: "signal-start", Survivors: true, Workers: 3},
		{App: "gone", Action: "stop", Why: "the new revision has no such service"},
		{App: "new", Action: "start"}, {App: "stays", Action: "keep"}, {App: "idle", Action: "leave"},
	}, Generations: []client.GenerationStep{{App: "heir", Revision: "5", PIDs: []int{9}, Action: "keep", Why: "refresh-mode is sigterm"}}},
		Outcomes: []client.Outcome{
			{App: "srv", Action: "restart", From: "6", To: "7", GapMS: 4.84},
			{App: "mgr", Action: "keep", From: "6", To: "6", NewPID: 42},
			{App: "heir", Action: "signal-start", From: "6", To: "7"},
			{App: "gone", Action: "stop", From: "6"}, {App: "new", Action: "start", To: "7"}, {App: "stays", Action: "keep", From: "7", To: "7"}, {App: "idle", Action: "leave", To: "unset"},
		}}
	want := "web.srv runs revision 7 after a gap of 4.8 ms. web.heir runs revision 7. web.gone was stopped: the new revision has no such service. " +
		"web.new was started, on revision 7. web.stays runs on, from revision 7. web.mgr still runs revision 6 (pid 42): refresh-mode is endure. " +
		"3 workers of web.heir still run revision 6: left to finish. 1 process of web.heir still runs revision 5: refresh-mode is sigterm. " +
		"'snap restart web.mgr' starts the new revision in its place."
	if got := paragraph(r); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
