// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

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

func TestDeeds(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ch := &client.Change{SpawnTime: at, Tasks: []client.Task{{Systemd: []client.Deed{
		{What: "start", Unit: "snapd-refresh-gate@web.service", Result: "canceled", At: at.Add(20 * time.Millisecond), MS: 143.2},
		{What: "signal", Unit: "snap.web.srv.service", Signal: "SIGHUP", To: "main", Result: "done", At: at.Add(30 * time.Millisecond)},
		{What: "restart", Unit: "snap.web.srv.service", Result: "failed", At: at.Add(time.Second), MS: 7.25},
		{What: "start", Unit: "snap.web.once.service", At: at.Add(2 * time.Second)},
	}}, {SystemdLeftOut: 3, Systemd: make([]client.Deed, 0, 40)}}}
	for range 40 {
		ch.Tasks[1].Systemd = append(ch.Tasks[1].Systemd, client.Deed{What: "stop", Unit: "u", Result: "done", At: at})
	}
	var out bytes.Buffer
	(&app{out: &out}).printDeeds(ch)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		"Asked of systemd  Unit                            At       Took     Result",
		"hold starts       snapd-refresh-gate@web.service  +0.020s  143.2ms  released",
		"SIGHUP to main    snap.web.srv.service            +0.030s  -        done",
		"restart           snap.web.srv.service            +1.000s  7.2ms    failed",
		"start             snap.web.once.service           +2.000s  -        not over then",
	}
	if len(lines) != shownDeeds+2 || !slices.Equal(lines[:5], want) || lines[len(lines)-1] != "… and 23 more: see --format json" {
		t.Errorf("%s", out.String())
	}
}
