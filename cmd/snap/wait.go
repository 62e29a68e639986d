// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"endured/client"
)

// waiting is the flag of commands that begin a change.
type waiting struct{ noWait bool }

func (w *waiting) flag(c *cobra.Command) {
	c.Flags().BoolVar(&w.noWait, "no-wait", false, "Print the id of the change and do not wait for it")
}

// errNotWaited says that --no-wait was given and the id was printed.
var errNotWaited = errors.New("not waited")

// wait shows the progress of a change until it is ready, and fails as it does.
// With --no-wait it prints the id and returns errNotWaited.
func (a *app) wait(ctx context.Context, w waiting, id string) (*client.Change, error) {
	if w.noWait {
		fmt.Fprintln(a.out, id)
		return nil, errNotWaited
	}
	p := a.newProgress()
	defer p.finish()
	ch, err := a.follow(ctx, id, p)
	p.finish()
	if err != nil {
		return nil, err
	}
	return ch, ch.Failed() // the change, also when it failed
}

// follow waits for a change. The first Ctrl-C asks the daemon to abort it, and
// waits on: what was done is being undone. The second one only stops waiting.
func (a *app) follow(ctx context.Context, id string, p progress) (*client.Change, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interrupts, stop := a.interrupts()
	defer stop()

	type end struct {
		ch  *client.Change
		err error
	}
	ended := make(chan end, 1)
	go func() {
		ch, err := a.client.WaitChange(ctx, id, p.change)
		ended <- end{ch, err}
	}()
	aborted := false
	for {
		select {
		case e := <-ended:
			return e.ch, e.err
		case <-interrupts:
			if aborted {
				cancel()
				<-ended
				return nil, fmt.Errorf("change %s goes on without waiting for it (see 'snap tasks %s')", id, id)
			}
			aborted = true
			if _, err := a.client.Abort(ctx, id); err != nil {
				fmt.Fprintf(a.err, "cannot abort: %s\n", a.explain(err))
			}
		}
	}
}

// done turns the end of a change into the end of a command.
func done(err error) error {
	if errors.Is(err, errNotWaited) {
		return nil
	}
	return err
}

// lastLook is where it is kept when the user last saw the warnings.
func (a *app) lastLook() string {
	if p := a.getenv("SNAPD_LAST_WARNING_TIMESTAMP_FILENAME"); p != "" {
		return p
	}
	home := a.getenv("HOME")
	if home == "" {
		return ""
	}
	return filepath.Join(a.dirs.Under(home), ".snap", "warnings.json")
}

type warningsSeen struct {
	Timestamp time.Time `json:"timestamp"`
}

func (a *app) warningsSeen() time.Time {
	var seen warningsSeen
	raw, err := os.ReadFile(a.lastLook())
	if err != nil || json.Unmarshal(raw, &seen) != nil {
		return time.Time{}
	}
	return seen.Timestamp
}

func (a *app) setWarningsSeen(t time.Time) error {
	path := a.lastLook()
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot note that warnings were seen: %w", err)
	}
	raw, err := json.Marshal(warningsSeen{t})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("cannot note that warnings were seen: %w", err)
	}
	return nil
}

// tellWarnings points at warnings that came up since the user last looked.
func (a *app) tellWarnings() {
	s := a.client.WarningsSummary()
	if s.Count == 0 || !s.Last.After(a.warningsSeen()) {
		return
	}
	if s.Count == 1 {
		a.tell("WARNING: one new warning, 'snap warnings' shows it")
		return
	}
	a.tell(fmt.Sprintf("WARNING: %d new warnings, 'snap warnings' shows them", s.Count))
}
