// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	timerDayPattern  = regexp.MustCompile(`^(sun|mon|tue|wed|thu|fri|sat)([1-5]?)(?:-(sun|mon|tue|wed|thu|fri|sat)([1-5]?))?$`)
	timerSpanPattern = regexp.MustCompile(`^(\d{1,2}):(\d{2})(?:([-~])(\d{1,2}):(\d{2})(?:/(\d{1,3}))?)?$`)
)

// CheckTimer tells what is wrong with a timer: schedules separated by ",,",
// each a list of days (mon, mon-fri, mon1, fri5) followed by a list of times
// (9:00, 9:00-17:00, 9:00~17:00, 0:00-24:00/4), separated by ",". Either list
// may be absent, not both.
func CheckTimer(timer string) error {
	if timer == "" {
		return errors.New("a timer must not be empty")
	}
	if len(timer) > 1024 {
		return fmt.Errorf("%s is too long for a timer", quote(timer))
	}
	for _, schedule := range strings.Split(timer, ",,") {
		if err := checkSchedule(schedule); err != nil {
			return fmt.Errorf("%s is not a timer such as 9:00-17:00/2 or mon-fri,10:00: %w", quote(timer), err)
		}
	}
	return nil
}

func checkSchedule(schedule string) error {
	times := false
	for _, item := range strings.Split(schedule, ",") {
		if m := timerDayPattern.FindStringSubmatch(item); m != nil {
			if times {
				return fmt.Errorf("the day %s comes after a time; put days first, or \",,\" between schedules", quote(item))
			}
			if err := checkDays(m); err != nil {
				return err
			}
			continue
		}
		times = true
		if err := checkSpan(item); err != nil {
			return err
		}
	}
	return nil
}

// checkDays takes the match of timerDayPattern: day, week, last day, its week.
func checkDays(m []string) error {
	if m[4] != "" && m[2] == "" {
		return fmt.Errorf("in %s the week of the first day is missing", quote(m[0]))
	}
	if m[4] != "" && m[2] > m[4] {
		return fmt.Errorf("in %s the weeks are in the wrong order", quote(m[0]))
	}
	return nil
}

func checkSpan(item string) error {
	m := timerSpanPattern.FindStringSubmatch(item)
	if m == nil {
		return fmt.Errorf("%s is neither a day nor a time", quote(item))
	}
	start, err := clock(m[1], m[2])
	if err != nil {
		return err
	}
	if m[3] == "" {
		return nil
	}
	end, err := clock(m[4], m[5])
	if err != nil {
		return err
	}
	if start == end {
		return fmt.Errorf("the span %s is empty", quote(item))
	}
	if m[6] != "" && strings.Trim(m[6], "0") == "" {
		return fmt.Errorf("%s must be split into at least one part", quote(item))
	}
	return nil
}

// clock returns the minutes since midnight; 24:00 is the end of the day.
func clock(hours, minutes string) (int, error) {
	h, _ := strconv.Atoi(hours)
	m, _ := strconv.Atoi(minutes)
	if h > 24 || m > 59 || h == 24 && m > 0 {
		return 0, fmt.Errorf("%s is not a time of day", quote(hours+":"+minutes))
	}
	return h*60 + m, nil
}
