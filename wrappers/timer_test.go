// SPDX-License-Identifier: Apache-2.0

package wrappers_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"endured/snap"
	"endured/wrappers"
)

// timerLines returns the values of a directive in the unit of a timer.
func timerLines(t *testing.T, timer, directive, machine string) (out []string) {
	t.Helper()
	info := &snap.Info{Name: "tick", Version: "1", Revision: 1, Apps: map[string]*snap.App{}}
	info.Apps["svc"] = &snap.App{Snap: info, Name: "svc", Command: "bin/svc", Daemon: "oneshot", Timer: timer, SendSIGKILL: true}
	set, err := wrappers.Units(info, wrappers.Options{Arch: "amd64", Machine: machine})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set.Files {
		for _, line := range strings.Split(string(f.Data), "\n") {
			if v, ok := strings.CutPrefix(line, directive+"="); ok && strings.HasSuffix(f.Path, ".timer") {
				out = append(out, v)
			}
		}
	}
	return out
}

// happens lists the moments of a timer without spread windows, day by day.
func happens(schedules []snap.Schedule, from time.Time, days int) (out []time.Time) {
	for n := range days {
		day := from.AddDate(0, 0, n)
		for _, s := range schedules {
			if len(s.Days) > 0 && !slices.ContainsFunc(s.Days, func(d snap.DaySpan) bool { return within(d, day) }) {
				continue
			}
			for _, w := range s.Times {
				for p := range w.Parts {
					out = append(out, day.Add(w.Start+(w.End-w.Start)*time.Duration(p)/time.Duration(w.Parts)).Truncate(time.Second))
				}
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.Compact(out)
}

// within tells whether a day is in a span: some day near it is the one that is
// counted, and the day is one of those that go with it.
func within(d snap.DaySpan, day time.Time) bool {
	for n := range d.Len() + 1 {
		first := day.AddDate(0, 0, -n)
		counted := first
		if d.CountsLast {
			counted = first.AddDate(0, 0, d.Len())
		}
		week := (counted.Day()-1)/7 + 1
		last := counted.AddDate(0, 0, 7).Month() != counted.Month()
		if first.Weekday() == d.First && (d.Week == 0 || d.Week == week && week < 5 || d.Week == 5 && last) {
			return true
		}
	}
	return false
}

var elapse = regexp.MustCompile(`(?m)^ *(?:Next elapse|Iter\. #\d+|Iteration #\d+): \w+ (\S+ \S+) UTC$`)

// systemd says when the expressions elapse, over two Februaries of either length.
func TestTimersElapseWhenTheyShould(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	var timers []string
	for _, span := range []string{"mon%d", "mon%d-sun", "sun%d-sat", "sat-fri%d", "thu-mon%d"} {
		for week := 1; week <= 5; week++ {
			timers = append(timers, fmt.Sprintf(span, week)+",23:30-1:30/2")
		}
	}
	timers = append(timers, "10:00", "mon", "24:00", "fri-mon,24:00", "mon-fri,9:00-17:00/3", "mon,10:00,,fri2-wed2,15:00-16:00/60", "0:00-24:00/7")
	from := time.Date(2027, 12, 20, 0, 0, 0, 0, time.UTC)
	const days = 460
	for _, timer := range timers {
		t.Run(timer, func(t *testing.T) {
			t.Parallel()
			schedules, err := snap.ParseTimer(timer)
			if err != nil {
				t.Fatal(err)
			}
			end := from.AddDate(0, 0, days)
			want := map[time.Time]bool{}
			for _, at := range happens(schedules, from.AddDate(0, 0, -1), days+1) {
				if !at.Before(from) && at.Before(end) {
					want[at] = true
				}
			}
			got := map[time.Time]bool{}
			most := fmt.Sprint(len(want) + 50)
			cmd := exec.Command("systemd-analyze", append([]string{"calendar", "--iterations=" + most, "--base-time=2027-12-19 23:59:59 UTC"}, timerLines(t, timer, "OnCalendar", "")...)...)
			cmd.Env = append(os.Environ(), "TZ=UTC", "LANG=C")
			text, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			for _, m := range elapse.FindAllStringSubmatch(string(text), -1) {
				at, err := time.Parse(time.DateTime, m[1])
				if err != nil {
					t.Fatal(err)
				}
				if at.Before(end) {
					got[at] = true
				}
			}
			for at := range want {
				if !got[at] {
					t.Errorf("nothing happens at %s", at.Format("Mon 2006-01-02 15:04:05"))
				}
			}
			for at := range got {
				if !want[at] {
					t.Errorf("it happens at %s", at.Format("Mon 2006-01-02 15:04:05"))
				}
			}
			if len(got) == 0 {
				t.Error("nothing ever happens")
			}
		})
	}
}

// A spread timer keeps its moment on one machine and lies inside its window.
func TestTimersSpread(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range 50 {
		machine := fmt.Sprint(n)
		lines := timerLines(t, "9:00~11:00", "OnCalendar", machine)
		if len(lines) != 1 || !slices.Equal(lines, timerLines(t, "9:00~11:00", "OnCalendar", machine)) {
			t.Fatalf("got %q", lines)
		}
		if c := strings.TrimPrefix(lines[0], "*-*-* "); c < "09:00:00" || c >= "11:00:00" {
			t.Errorf("%s is outside", lines[0])
		}
		seen[lines[0]] = true
	}
	if len(seen) < 40 {
		t.Errorf("50 machines have %d moments", len(seen))
	}
	for _, timer := range []string{"24:00~23:00/3", "23:00~1:00/100", "10:00~10:01/60"} {
		if lines := timerLines(t, timer, "OnCalendar", ""); len(lines) == 0 {
			t.Errorf("%s: nothing", timer)
		}
	}
	if got := timerLines(t, "10:00-10:01/60", "AccuracySec", ""); !slices.Equal(got, []string{"1s"}) {
		t.Errorf("every second, accurate to %q", got)
	}
}
