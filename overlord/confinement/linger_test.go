// SPDX-License-Identifier: Apache-2.0

package confinement

import (
	"context"
	"log/slog"
	"os/exec"
	"sync"
	"testing"

	"endured/interfaces/apparmor"
	"endured/snap"
)

// lingers is a store in which the profiles of one revision are carried by one
// process after the other.
type lingers struct {
	Profiles
	more    chan struct{}
	mu      sync.Mutex
	pids    []int
	unloads chan struct{}
}

func (l *lingers) Lingers() <-chan struct{} { return l.more }

func (l *lingers) Lingering() []apparmor.Lingering {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pids) == 0 {
		return nil
	}
	return []apparmor.Lingering{{Key: apparmor.Key{Snap: "web", Revision: 1}, PIDs: l.pids[:1]}}
}

func (l *lingers) UnloadLingering(string, snap.Revision) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pids = l.pids[1:]; len(l.pids) > 0 {
		l.more <- struct{}{}
		return &apparmor.InUseError{Label: "snap.web.a.1", PIDs: l.pids[:1]}
	}
	close(l.unloads)
	return nil
}

// TestLinger: profiles go with the last of the processes that carry them, and
// one attempt is made for each end.
func TestLinger(t *testing.T) {
	t.Parallel()
	l := &lingers{more: make(chan struct{}, 1), unloads: make(chan struct{})}
	var all []*exec.Cmd
	for range 2 {
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		l.pids = append(l.pids, c.Process.Pid)
	}
	m := &Manager{Config: Config{Profiles: l, Log: slog.New(slog.DiscardHandler)}}
	ctx, end := context.WithCancel(t.Context())
	m.end = end
	m.all.Go(func() { m.linger(ctx) })
	defer m.Stop()
	l.more <- struct{}{}
	for _, c := range all {
		select {
		case <-l.unloads:
			t.Error("unloaded while a process carries it")
		default:
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.Wait()
	}
	select {
	case <-l.unloads:
	case <-t.Context().Done():
	}
}
