// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"endured/client"
)

// shownDeeds is how many lines there are of what went well; --format json has
// all that is kept.
const shownDeeds = 24

// gatePrefix begins the units whose start job holds the starts of a snap's
// services. They never start: the job is cancelled when the switch is over.
const gatePrefix = "snapd-refresh-gate@"

// printDeeds shows what the change asked of systemd: each job and signal, when,
// how it ended and how long it took.
func (a *app) printDeeds(ch *client.Change) {
	t := newTable("Asked of systemd", "Unit", "At", "Took", "Result")
	shown, left := 0, 0
	for i := range ch.Tasks {
		task := &ch.Tasks[i]
		left += task.SystemdLeftOut
		for n := range task.Systemd {
			d := &task.Systemd[n]
			asked, result, well := describeDeed(d)
			if well && shown >= shownDeeds {
				left++
				continue
			}
			shown++
			took := ""
			if d.MS > 0 {
				took = fmt.Sprintf("%.1fms", d.MS)
			}
			t.add(asked, printable(d.Unit), fmt.Sprintf("+%.3fs", d.At.Sub(ch.SpawnTime).Seconds()), took, result)
		}
	}
	if shown == 0 {
		return
	}
	fmt.Fprintln(a.out)
	t.write(a.out)
	if left > 0 {
		a.say("… and %d more: see --format json", left)
	}
}

// describeDeed says what was asked and what came of it, and whether that is
// nothing to look at.
func describeDeed(d *client.Deed) (asked, result string, well bool) {
	asked, result, well = printable(d.What), printable(d.Result), d.Result == "done"
	if d.Signal != "" {
		asked = printable(d.Signal + " to " + d.To)
	}
	switch {
	case strings.HasPrefix(d.Unit, gatePrefix) && d.What == "start" && d.Result == "canceled":
		asked, result, well = "hold starts", "released", true
	case strings.HasPrefix(d.Unit, gatePrefix) && d.What == "start":
		asked = "hold starts"
	case d.Result == "":
		result = "not over then"
	}
	return asked, result, well
}
