// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"endured/snap"
	"endured/systemd"
)

// timerUnit returns the unit that starts a service by the clock.
//
// Like a socket's it does not depend on the revision, and it waits for no gate:
// during a refresh it goes on, and the start that it asks for waits.
func timerUnit(app *snap.App, o Options) ([]byte, error) {
	schedules, err := snap.ParseTimer(app.Timer)
	if err != nil {
		return nil, err
	}
	seed := o.Machine + "\x00" + app.Snap.Name + "." + app.Name
	opts := []systemd.Option{opt("Unit", app.Unit())}
	for _, line := range calendar(schedules, seed) {
		opts = append(opts, opt("OnCalendar", line))
	}
	if shortest(schedules) < 2*time.Minute {
		opts = append(opts, opt("AccuracySec", "1s")) // else systemd takes the liberty of a minute
	}
	return systemd.Unit{
		sect("Unit",
			opt("Description", "Timer for snap application "+app.Snap.Name+"."+app.Name),
			opt("X-Snappy", "yes")),
		sect("Timer", opts...),
		sect("Install", opt("WantedBy", "timers.target")),
	}.Bytes()
}

// shortest is the length of the shortest part of a window that is divided.
func shortest(schedules []snap.Schedule) time.Duration {
	least := 24 * time.Hour
	for _, s := range schedules {
		for _, t := range s.Times {
			if t.Parts > 1 {
				least = min(least, (t.End-t.Start)/time.Duration(t.Parts))
			}
		}
	}
	return least
}

// calendar says in systemd's calendar expressions what a timer says.
func calendar(schedules []snap.Schedule, seed string) []string {
	var out []string
	for n, s := range schedules {
		for shift, seconds := range moments(s.Times, fmt.Sprintf("%s\x00%d", seed, n)) {
			for _, clock := range clocks(seconds) {
				for _, day := range dayExpressions(s.Days, shift) {
					out = append(out, day+" "+clock)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

const daySeconds = 24 * 60 * 60

// moments returns the seconds since midnight, sorted, at which something
// happens, on the day itself and on the day after it.
func moments(times []snap.TimeSpan, seed string) (on [2][]int) {
	for n, t := range times {
		length := (t.End - t.Start) / time.Duration(t.Parts)
		for part := range t.Parts {
			at := t.Start + (t.End-t.Start)*time.Duration(part)/time.Duration(t.Parts)
			if t.Spread {
				at += point(fmt.Sprintf("%s\x00%d\x00%d", seed, n, part), length)
			}
			s := int(at / time.Second)
			on[s/daySeconds] = append(on[s/daySeconds], s%daySeconds)
		}
	}
	for n := range on {
		slices.Sort(on[n])
		on[n] = slices.Compact(on[n])
	}
	return on
}

// point returns a time below length that is always the same for a seed. The
// timer does not move with a refresh, and two machines have different ones.
func point(seed string, length time.Duration) time.Duration {
	sum := sha256.Sum256([]byte(seed))
	return time.Duration(binary.BigEndian.Uint64(sum[:8])%uint64(length/time.Second)) * time.Second
}

// clocks writes seconds since midnight as few expressions HOURS:MINUTES:SECONDS.
func clocks(moments []int) []string {
	minutes := gather(moments, func(s int) (int, string, int) { return s / 60, "", s % 60 })
	var hours []group
	for _, g := range minutes {
		hours = append(hours, gather(g.keys, func(m int) (int, string, int) { return m / 60, g.text, m % 60 })...)
	}
	// hours that have the same minutes and seconds belong together
	byText := map[string][]int{}
	for _, g := range hours {
		byText[g.text] = append(byText[g.text], g.keys...)
	}
	var out []string
	for text, keys := range byText {
		slices.Sort(keys)
		out = append(out, ranges(keys)+":"+text)
	}
	slices.Sort(out)
	return out
}

// group is the keys under which the same values were found, and those in text.
type group struct {
	keys []int
	text string
}

// gather splits numbers into a key and a value, and puts keys with the same
// values together; suffix follows the values.
func gather(numbers []int, split func(int) (key int, suffix string, value int)) []group {
	values := map[int][]int{}
	var keys []int
	suffix := ""
	for _, n := range numbers {
		k, s, v := split(n)
		if values[k] == nil {
			keys = append(keys, k)
		}
		values[k] = append(values[k], v)
		suffix = s
	}
	var out []group
	at := map[string]int{}
	for _, k := range keys {
		text := ranges(values[k])
		if suffix != "" {
			text += ":" + suffix
		}
		n, ok := at[text]
		if !ok {
			n = len(out)
			at[text] = n
			out = append(out, group{text: text})
		}
		out[n].keys = append(out[n].keys, k)
	}
	return out
}

// ranges writes sorted numbers as 00..05,30.
func ranges(numbers []int) string {
	var parts []string
	for n := 0; n < len(numbers); {
		end := n
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}
		if end-n >= 2 {
			parts = append(parts, fmt.Sprintf("%02d..%02d", numbers[n], numbers[end]))
			n = end + 1
			continue
		}
		parts = append(parts, fmt.Sprintf("%02d", numbers[n]))
		n++
	}
	return strings.Join(parts, ",")
}

// dayExpressions writes days, all moved on by shift days.
func dayExpressions(days []snap.DaySpan, shift int) []string {
	if len(days) == 0 {
		return []string{"*-*-*"}
	}
	weekly := map[time.Weekday]bool{}
	var out []string
	for _, d := range days {
		for n := range d.Len() + 1 {
			if d.Week == 0 {
				weekly[(d.First+time.Weekday(n+shift))%7] = true
				continue
			}
			day, offset := d.First, n+shift
			if d.CountsLast {
				day, offset = d.Last, n-d.Len()+shift
			}
			name := time.Weekday((int(day) + offset + 7) % 7).String()[:3]
			for _, date := range dates(d.Week, offset) {
				out = append(out, name+" "+date)
			}
		}
	}
	if list := weekdays(weekly); list != "" {
		out = append(out, list+" *-*-*")
	}
	return out
}

// weekdays writes days of the week, Monday first as systemd has them.
func weekdays(set map[time.Weekday]bool) string {
	var names []string
	for n := range 7 {
		if d := time.Weekday((n + 1) % 7); set[d] {
			names = append(names, d.String()[:3])
		}
	}
	return strings.Join(names, ",")
}

// dates writes the dates that lie offset days, -6 to 7, after the first to
// fourth of some weekday in a month, or, for week 5, after the last. The weekday
// that the caller puts before them picks one date of the seven.
func dates(week, offset int) []string {
	if week == 5 {
		return datesFromEnd(offset)
	}
	first := 7*(week-1) + 1 + offset
	last := first + 6
	switch {
	case first < 1: // they begin in the month before
		return append(fromEnd(1, 1-first), fmt.Sprintf("*-*-01..%02d", last))
	case last <= 28:
		return []string{fmt.Sprintf("*-*-%02d..%02d", first, last)}
	}
	// they end in the month after, if the month is short
	out := []string{fmt.Sprintf("*-*-%02d..%02d", first, min(last, 31))}
	add := func(months string, to int) {
		if to >= 1 {
			out = append(out, fmt.Sprintf("%s-01..%02d", months, to))
		}
	}
	add("*-01,02,04,06,08,09,11", last-31) // after months of 31 days
	add("*-05,07,10,12", last-30)
	add("*-03", last-29)
	// and one more day after a February of 28
	return append(out, fmt.Sprintf("2025/4,2026/4,2027/4-03-%02d", last-28))
}

// datesFromEnd is dates for the last week of a month.
func datesFromEnd(offset int) []string {
	switch {
	case offset <= 0:
		return fromEnd(1-offset, 7-offset)
	case offset == 7:
		return []string{"*-*-01..07"}
	}
	return append(fromEnd(1, 7-offset), fmt.Sprintf("*-*-01..%02d", offset))
}

// fromEnd writes dates counted from the end of every month, of which 1 is the
// last day. systemd knows no ranges of them, and 252 refuses some longer lists.
func fromEnd(from, to int) []string {
	var out []string
	for ; from <= to; from += 4 {
		var days []string
		for n := from; n <= min(to, from+3); n++ {
			days = append(days, fmt.Sprintf("%02d", n))
		}
		out = append(out, "*-*~"+strings.Join(days, ","))
	}
	return out
}
