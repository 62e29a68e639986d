// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Schedule is one part of a timer: what happens on Days at Times.
type Schedule struct {
	Days  []DaySpan // none is every day
	Times []TimeSpan
}

// DaySpan is the days from First to the next Last, both included.
type DaySpan struct {
	First, Last time.Weekday
	// Week is 0 for every week. Otherwise it says which First of the month the
	// span begins with, or, with CountsLast, which Last it ends with: 1 to 4,
	// and 5 for the last one of the month.
	Week       int
	CountsLast bool
}

// Len is the number of days from First to Last, 0 to 6.
func (d DaySpan) Len() int { return int(d.Last-d.First+7) % 7 }

// TimeSpan is a window in a day, divided into Parts that are equally long. What
// is scheduled happens once in each: when it begins or, with Spread, anywhere in it.
type TimeSpan struct {
	// Start is the time since midnight, at most 24 h. End is later, beyond 24 h
	// if it is on the next day; it is Start for a point in time.
	Start, End time.Duration
	Parts      int
	Spread     bool
}

var (
	timerDayPattern  = regexp.MustCompile(`^(sun|mon|tue|wed|thu|fri|sat)([1-5]?)(?:-(sun|mon|tue|wed|thu|fri|sat)([1-5]?))?$`)
	timerSpanPattern = regexp.MustCompile(`^(\d{1,2}):(\d{2})(?:([-~])(\d{1,2}):(\d{2})(?:/(\d{1,5}))?)?$`)

	timerDays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // by time.Weekday
)

// maxTimerEvents bounds what a timer asks systemd to remember.
const maxTimerEvents = 11000

// ParseTimer reads a timer: schedules separated by ",,", each a list of days
// (mon, mon-fri, mon1, fri5, mon2-wed) followed by a list of times (9:00,
// 9:00-17:00, 9:00~17:00, 0:00-24:00/4), separated by ",". Either list may be
// absent, not both; without times it is midnight. The syntax is that of
// https://snapcraft.io/docs/timer-string-format.
func ParseTimer(timer string) ([]Schedule, error) {
	if timer == "" {
		return nil, errors.New("a timer must not be empty")
	}
	if len(timer) > 1024 {
		return nil, fmt.Errorf("%s is too long for a timer", quote(timer))
	}
	var out []Schedule
	events := 0
	for _, text := range strings.Split(timer, ",,") {
		s, err := parseSchedule(text)
		if err == nil {
			events += s.events()
			if events > maxTimerEvents {
				err = errors.New("it has too many parts")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s is not a timer such as 9:00-17:00/2 or mon-fri,10:00: %w", quote(timer), err)
		}
		out = append(out, s)
	}
	return out, nil
}

// CheckTimer tells what is wrong with a timer.
func CheckTimer(timer string) error {
	_, err := ParseTimer(timer)
	return err
}

// events is how many different times and days there may be: days of every week
// are one, those of a counted week one each.
func (s Schedule) events() int {
	parts, days := 0, 0
	for _, t := range s.Times {
		parts += t.Parts
	}
	for _, d := range s.Days {
		if d.Week > 0 {
			days += d.Len() + 1
		}
	}
	return parts * max(1, days)
}

func parseSchedule(text string) (s Schedule, err error) {
	for _, item := range strings.Split(text, ",") {
		if m := timerDayPattern.FindStringSubmatch(item); m != nil {
			if len(s.Times) > 0 {
				return s, fmt.Errorf("the day %s comes after a time; put days first, or \",,\" between schedules", quote(item))
			}
			d, err := parseDays(m)
			if err != nil {
				return s, err
			}
			s.Days = append(s.Days, d)
			continue
		}
		t, err := parseSpan(item)
		if err != nil {
			return s, err
		}
		s.Times = append(s.Times, t)
	}
	if len(s.Times) == 0 {
		s.Times = []TimeSpan{{Parts: 1}}
	}
	return s, nil
}

// parseDays takes the match of timerDayPattern: day, week, last day, its week.
func parseDays(m []string) (DaySpan, error) {
	d := DaySpan{First: weekday(m[1])}
	d.Last = d.First
	d.Week, _ = strconv.Atoi(m[2])
	if m[3] == "" {
		return d, nil
	}
	d.Last = weekday(m[3])
	switch {
	case m[4] == "" || m[2] == m[4]: // mon2-wed2 is an older way to write mon2-wed
	case m[2] == "":
		d.Week, _ = strconv.Atoi(m[4])
		d.CountsLast = true
	default:
		return d, fmt.Errorf("in %s the days are of different weeks; give the week of one of them", quote(m[0]))
	}
	return d, nil
}

func weekday(name string) time.Weekday { return time.Weekday(slices.Index(timerDays, name)) }

func parseSpan(item string) (t TimeSpan, err error) {
	m := timerSpanPattern.FindStringSubmatch(item)
	if m == nil {
		return t, fmt.Errorf("%s is neither a day nor a time", quote(item))
	}
	t.Parts = 1
	if t.Start, err = clock(m[1], m[2]); err != nil {
		return t, err
	}
	t.End = t.Start
	if m[3] == "" {
		return t, nil
	}
	t.Spread = m[3] == "~"
	if t.End, err = clock(m[4], m[5]); err != nil {
		return t, err
	}
	if t.End < t.Start {
		t.End += 24 * time.Hour
	}
	if t.Start == t.End {
		return t, fmt.Errorf("the span %s is empty", quote(item))
	}
	if m[6] == "" {
		return t, nil
	}
	t.Parts, _ = strconv.Atoi(m[6])
	if t.Parts < 1 {
		return t, fmt.Errorf("%s must be split into at least one part", quote(item))
	}
	if (t.End-t.Start)/time.Duration(t.Parts) < time.Second {
		return t, fmt.Errorf("%s is split into parts shorter than a second", quote(item))
	}
	return t, nil
}

// clock returns the time since midnight; 24:00 is the end of the day.
func clock(hours, minutes string) (time.Duration, error) {
	h, _ := strconv.Atoi(hours)
	m, _ := strconv.Atoi(minutes)
	if h > 24 || m > 59 || h == 24 && m > 0 {
		return 0, fmt.Errorf("%s is not a time of day", quote(hours+":"+minutes))
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, nil
}
