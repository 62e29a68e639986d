// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"endured/overlord/snapstate"
	"endured/snap"
)

// tracked is what a Track in the background answers.
type tracked struct {
	rev snap.Revision
	err error
}

// track asks for a process of the test's to be tracked.
func (m *machine) track(ctx context.Context, app string) <-chan tracked {
	m.t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	answer := make(chan tracked, 1)
	go func() {
		got, err := m.o.Track(ctx, cmd.Process.Pid, "demo", app)
		if err != nil {
			answer <- tracked{0, err}
			return
		}
		answer <- tracked{got.Revision, nil}
	}()
	return answer
}

// holdCall makes the first call that begins so wait until goOn is closed.
func (m *machine) holdCall(prefix string) (held <-chan struct{}, goOn chan<- struct{}) {
	h, g := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.hook(nil, func(call string) error {
		if strings.HasPrefix(call, prefix) {
			once.Do(func() {
				close(h)
				<-g
			})
		}
		return nil
	}, nil)
	return h, g
}

// waits fails if there is an answer already.
func (m *machine) waits(answer <-chan tracked) {
	m.t.Helper()
	select {
	case got := <-answer:
		m.t.Errorf("answered %v, %v at once", got.rev, got.err)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestTrack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	var none *snapstate.NotInstalledError
	if got := <-m.track(t.Context(), "tool"); !errors.As(got.err, &none) {
		t.Errorf("not installed: %v, %v", got.rev, got.err)
	}
	m.done(m.install("v1"))
	if got := <-m.track(t.Context(), "tool"); got.err != nil || got.rev != -1 {
		t.Errorf("tool: %v, %v", got.rev, got.err)
	}
	var noApp *snapstate.AppNotFoundError
	for _, app := range []string{"svc", "nosuch"} {
		if got := <-m.track(t.Context(), app); !errors.As(got.err, &noApp) {
			t.Errorf("%s: %v, %v", app, got.rev, got.err)
		}
	}
	m.done(disable(m))
	if got := <-m.track(t.Context(), "tool"); !errors.As(got.err, &none) {
		t.Errorf("disabled: %v, %v", got.rev, got.err)
	}
}

// TestTrackDuringASwitch: who comes while a switch is in progress waits for it
// and gets the revision that it arrives at, also before its commit.
func TestTrackDuringASwitch(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	held, goOn := m.holdCall("RestartUnit " + svc)
	id := m.begun(m.install("v3"))
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	gone := m.track(ctx, "tool")
	answer := m.track(t.Context(), "gadget") // which only v3 has
	m.waits(answer)
	cancel()
	if got := <-gone; !errors.Is(got.err, context.Canceled) {
		t.Errorf("a caller that went away: %v, %v", got.rev, got.err)
	}
	close(goOn)
	if got := <-answer; got.err != nil || got.rev != -2 {
		t.Errorf("got revision %v, %v", got.rev, got.err)
	}
	m.done(id, nil)
	m.sound()
}

// TestTrackDuringAFailedSwitch: the way back is part of the switch.
func TestTrackDuringAFailedSwitch(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	held, goOn := m.holdCall("RestartUnit " + svc)
	m.mu.Lock()
	m.broken = func(unit, rev string) error {
		if rev == "x2" {
			return errors.New("no such command")
		}
		return nil
	}
	m.mu.Unlock()
	id := m.begun(m.install("v3"))
	<-held
	answer := m.track(t.Context(), "tool")
	m.waits(answer)
	close(goOn)
	if got := <-answer; got.err != nil || got.rev != -1 {
		t.Errorf("got revision %v, %v", got.rev, got.err)
	}
	m.failed(id, nil)
	m.sound()
}

// TestSwitchWaitsForTrack: nothing is touched while an app is being started.
func TestSwitchWaitsForTrack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v1"))
	held, goOn := m.holdCall("StartTransientUnit")
	answer := m.track(t.Context(), "tool")
	<-held
	m.fake.ResetCalls()
	before := m.pid(svc)
	id := m.begun(m.install("v2"))
	select {
	case <-m.changed(id):
		t.Error("the refresh did not wait")
	case <-time.After(100 * time.Millisecond):
	}
	if calls := strings.Join(m.fake.Calls(), "\n"); strings.Contains(calls, gate) || m.pid(svc) != before {
		t.Errorf("the switch has begun:\n%s", calls)
	}
	close(goOn)
	if got := <-answer; got.err != nil || got.rev != -1 {
		t.Errorf("got revision %v, %v", got.rev, got.err)
	}
	m.done(id, nil)
	m.sound()
}

// changed is closed when the change has ended.
func (m *machine) changed(id string) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		if m.o.State().WaitChange(m.t.Context(), id) == nil {
			close(ended)
		}
	}()
	return ended
}
