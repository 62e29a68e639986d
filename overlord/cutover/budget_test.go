// SPDX-License-Identifier: Apache-2.0

package cutover

import (
	"testing"
	"time"

	"endured/overlord/lifecycle"
)

// TestBudget compares the time that a switch has with what it promises to the
// processes that it ends: those of a removal one after the other, their scopes
// and those that are restarted together.
func TestBudget(t *testing.T) {
	t.Parallel()
	const own = 20 * time.Second
	step := func(app string, a lifecycle.Action, signal string, sigkill bool) lifecycle.Step {
		return lifecycle.Step{App: app, Action: a, Signal: signal, SendSIGKILL: sigkill, StopTimeout: 10 * time.Second}
	}
	scope := func(a lifecycle.Action, bound time.Duration) lifecycle.GenerationStep {
		return lifecycle.GenerationStep{Action: a, StopTimeout: bound}
	}
	for _, c := range []struct {
		name string
		plan lifecycle.Plan
		want time.Duration
	}{
		{"nothing", lifecycle.Plan{}, own},
		{"two restarts", lifecycle.Plan{Services: []lifecycle.Step{
			step("a", lifecycle.DoRestart, "", true), step("b", lifecycle.SignalStart, "SIGTERM", true)}}, own + 10*time.Second},
		{"one stays", lifecycle.Plan{Services: []lifecycle.Step{
			step("a", lifecycle.Keep, "", true), step("b", lifecycle.DoRestart, "", true)}}, own + 10*time.Second},
		{"two stops", lifecycle.Plan{Services: []lifecycle.Step{
			step("a", lifecycle.DoStop, "", true), step("b", lifecycle.DoStop, "", true)}}, own + 20*time.Second},
		{"a stop-mode", lifecycle.Plan{Services: []lifecycle.Step{step("a", lifecycle.DoStop, "SIGINT", true)}}, own + 20*time.Second},
		{"never killed, twice", lifecycle.Plan{Services: []lifecycle.Step{
			step("a", lifecycle.DoRestart, "", false), step("b", lifecycle.DoRestart, "", false)}}, own + 20*time.Second},
		{"scopes", lifecycle.Plan{
			Services:    []lifecycle.Step{step("a", lifecycle.DoStop, "", true)},
			Generations: []lifecycle.GenerationStep{scope(lifecycle.DoStop, 5*time.Second), scope(lifecycle.DoStop, 7*time.Second), scope(lifecycle.Keep, time.Hour)},
		}, own + 17*time.Second},
		{"apps", lifecycle.Plan{Apps: []lifecycle.AppStep{{Action: lifecycle.DoStop}, {Action: lifecycle.Keep}}}, own + 30*time.Second},
	} {
		sw := &Switch{m: &Manager{Config: Config{Budget: own}}, intent: &Intent{Plan: &c.plan}}
		course := course{wish: map[string]wish{}}
		for _, s := range c.plan.Services {
			course.wish[s.App] = forwardWish(s)
		}
		if got := sw.budget(course); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
