// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"endured/client"
)

// holding are the flags of 'snap refresh' that hold refreshes.
type holding struct {
	hold   string // "" is not given
	unhold bool
}

func (h *holding) flags(f *pflag.FlagSet) {
	f.StringVar(&h.hold, "hold", "", "Hold refreshes for a `TIME` such as 72h, or forever, and do nothing else")
	f.Lookup("hold").NoOptDefVal = "forever"
	f.BoolVar(&h.unhold, "unhold", false, "Hold refreshes no longer, and do nothing else")
}

// asked tells whether one of them was given.
func (h *holding) asked() bool { return h.hold != "" || h.unhold }

// until is the end of the hold, the zero time for none.
func (h *holding) until(now time.Time) (time.Time, error) {
	if h.hold == "forever" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(h.hold)
	if err != nil || d < time.Second {
		return time.Time{}, usageErrorf("cannot hold refreshes for %q: want a time such as 30m or 72h, or forever", h.hold)
	}
	return now.Add(d), nil
}

func (cmd *refreshCommand) changeHold(ctx context.Context, names []string) error {
	if cmd.unhold {
		if cmd.hold != "" {
			return usageErrorf("cannot use --hold and --unhold together")
		}
		id, err := cmd.client.Unhold(ctx, names)
		if err == nil {
			_, err = cmd.wait(ctx, cmd.waiting, id)
		}
		if err == nil {
			cmd.say("%s no longer held", whatIsHeld(names))
		}
		return done(err)
	}
	until, err := cmd.until(time.Now())
	if err != nil {
		return err
	}
	id, err := cmd.client.Hold(ctx, names, until)
	if err == nil {
		_, err = cmd.wait(ctx, cmd.waiting, id)
	}
	if err != nil {
		return done(err)
	}
	end := "until 'snap refresh --unhold" + strings.TrimRight(" "+strings.Join(names, " "), " ") + "'"
	if !until.IsZero() {
		end = "until " + until.In(cmd.zone).Format(time.RFC3339)
	}
	cmd.say("%s held %s", whatIsHeld(names), end)
	return nil
}

// whatIsHeld begins a sentence about refreshes that are held.
func whatIsHeld(names []string) string {
	if len(names) == 0 {
		return "Refreshes that begin by themselves are"
	}
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, ", ") + " are"
}

// held says until when a hold is, which is the daemon's word.
func (a *app) held(t time.Time) string {
	if !t.Before(client.Forever()) {
		return "forever"
	}
	return t.In(a.zone).Format(time.RFC3339)
}
