// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// table is a table with two spaces between columns.
type table struct {
	rows [][]string
	// style returns the escape sequence that a cell starts with, "" for none.
	style func(row, column int, text string) string
}

// minCell is how wide a column is at least, with its gap.
const minCell = 5

func newTable(header ...string) *table { return &table{rows: [][]string{header}} }

// add appends a row; an empty cell becomes "-".
func (t *table) add(cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

// write prints the table. On a terminal rows that are wider are cut.
func (t *table) write(w io.Writer) {
	width := 0
	if s, ok := w.(screen); ok {
		width = s.columns()
	}
	t.writeCut(w, width)
}

func (t *table) writeCut(w io.Writer, width int) {
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, minCell)
			}
			widths[i] = max(widths[i], columns(c)+2)
		}
	}
	for n, row := range t.rows {
		var b strings.Builder
		room := width
		for i, c := range row {
			if width > 0 {
				c = cut(c, max(room, 0))
				room -= widths[i]
			}
			shown := c
			if t.style != nil && n > 0 {
				if s := t.style(n, i, c); s != "" {
					shown = s + c + "\x1b[0m"
				}
			}
			b.WriteString(shown)
			if i < len(row)-1 && (width == 0 || room > 0) {
				b.WriteString(strings.Repeat(" ", widths[i]-columns(c)))
			}
		}
		fmt.Fprintln(w, b.String())
	}
}

// printable replaces control characters: what a snap or a log says must not
// drive the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// when says when something was; absolute says it exactly.
func (a *app) when(t time.Time, absolute bool) string {
	return humanTime(t.In(a.zone), time.Now().In(a.zone), absolute)
}

// humanTime says when something was, seen from now, in the zone of both.
func humanTime(t, now time.Time, absolute bool) string {
	if t.IsZero() {
		return "-"
	}
	if absolute {
		return t.Format(time.RFC3339)
	}
	day := func(t time.Time) time.Time {
		y, m, d := t.Date()
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	}
	switch days := int(day(now).Sub(day(t)) / (24 * time.Hour)); {
	case days == 0:
		return t.Format("today at 15:04 MST")
	case days == 1:
		return t.Format("yesterday at 15:04 MST")
	case days == -1:
		return t.Format("tomorrow at 15:04 MST")
	case days > 1 && days < 10:
		return fmt.Sprintf("%d days ago, at %s", days, t.Format("15:04 MST"))
	}
	return t.Format("2006-01-02")
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
