// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/rivo/uniseg"
	"github.com/schollz/progressbar/v3"

	"endured/client"
)

// progress shows how a change, or an upload, comes along.
type progress interface {
	// transfer tells how many bytes of a file have come or gone; verb says which.
	transfer(verb, name string, done, total int64)
	// change tells that the change is in a new state.
	change(*client.Change)
	// finish clears what was drawn.
	finish()
}

func (a *app) newProgress() progress {
	if a.terminal {
		return &barProgress{w: a.err, width: a.width}
	}
	return &lineProgress{w: a.err, last: map[string]string{}, begun: map[string]string{}}
}

// underWay returns the first task that something is done for.
func underWay(ch *client.Change) *client.Task {
	for i := range ch.Tasks {
		switch ch.Tasks[i].Status {
		case "Doing", "Undoing", "Abort":
			return &ch.Tasks[i]
		}
	}
	return nil
}

// title is how a task is shown while it is under way.
func title(t *client.Task) string {
	if t.Status == "Undoing" || t.Status == "Abort" {
		return "(undo) " + printable(t.Summary)
	}
	return printable(t.Summary)
}

// logText is the text of a log line, without its time and level.
func logText(line string) string {
	f := strings.SplitN(line, " ", 3)
	if len(f) == 3 {
		line = f[2]
	}
	return printable(line)
}

// told leaves out the lines that are only for those who look for them.
func told(log []string) []string {
	return slices.DeleteFunc(slices.Clone(log), func(line string) bool {
		f := strings.SplitN(line, " ", 3)
		return len(f) == 3 && f[1] == "DEBUG"
	})
}

// lineProgress is for what is not a terminal: a line for each task as it
// starts, and each new line of its log.
type lineProgress struct {
	w     io.Writer
	begun map[string]string // status by task id when it was told
	last  map[string]string // newest log line by task id
}

func (p *lineProgress) transfer(string, string, int64, int64) {}
func (p *lineProgress) finish()                               {}

func (p *lineProgress) change(ch *client.Change) {
	for i := range ch.Tasks {
		t := &ch.Tasks[i]
		switch t.Status {
		case "Do", "Hold", "Undo":
			continue
		}
		way := "do"
		if t.Status == "Undoing" || t.Status == "Undone" || t.Status == "Abort" {
			way = "undo"
		}
		if p.begun[t.ID] != way && (way == "undo" || p.begun[t.ID] == "") {
			p.begun[t.ID] = way
			if way == "undo" {
				fmt.Fprintf(p.w, "(undo) %s\n", printable(t.Summary))
			} else {
				fmt.Fprintln(p.w, title(t))
			}
		}
		for _, line := range newLines(told(t.Log), p.last[t.ID]) {
			fmt.Fprintf(p.w, "  %s\n", logText(line))
			p.last[t.ID] = line
		}
	}
}

// newLines returns the lines that come after the one that was shown last.
func newLines(log []string, last string) []string {
	for i := len(log) - 1; i >= 0; i-- {
		if log[i] == last {
			return log[i+1:]
		}
	}
	return log
}

// barProgress draws a spinner, or a bar where there is something to count.
type barProgress struct {
	w     io.Writer
	width func() int
	bar   *progressbar.ProgressBar
	key   string // what the bar is for
	drawn time.Time
}

// redrawEvery is how often a bar is drawn, at most.
const redrawEvery = 50 * time.Millisecond

// show draws a bar for key, a new one if that is not what is drawn; total < 0
// makes it a spinner.
func (p *barProgress) show(key, text string, done, total int64, bytes bool) {
	if p.key == key && total > 0 && time.Since(p.drawn) < redrawEvery {
		return
	}
	p.drawn = time.Now()
	room := p.width() - 4
	if total > 0 {
		room -= 46
	}
	text = cut(text, room)
	if p.key != key {
		p.finish()
		p.key = key
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(text),
			progressbar.OptionSetWidth(20), progressbar.OptionShowBytes(bytes),
			progressbar.OptionSpinnerType(14), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetRenderBlankState(true), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionThrottle(0))
	}
	p.bar.Describe(text)
	if total > 0 {
		_ = p.bar.Set64(min(done, total-1)) // a full bar would end itself
	}
}

func (p *barProgress) transfer(verb, name string, done, total int64) {
	if total > 0 {
		p.show(verb+name, verb+" "+printable(name), done, total, true)
	}
}

func (p *barProgress) change(ch *client.Change) {
	t := underWay(ch)
	if t == nil {
		return
	}
	if t.Progress.Total > 1 {
		p.show(t.ID+t.Status+t.Progress.Label, title(t), t.Progress.Done, t.Progress.Total, false)
		return
	}
	text := title(t)
	if lines := told(t.Log); len(lines) > 0 {
		text += ": " + logText(lines[len(lines)-1])
	}
	p.show(t.ID+t.Status, text, 0, -1, false)
}

func (p *barProgress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish() // a terminal that is gone needs no clearing
	}
	p.bar, p.key = nil, ""
}

// cut shortens text to a width in columns.
func cut(text string, width int) string {
	if width < 1 {
		return ""
	}
	text = strings.ReplaceAll(text, "\t", " ")
	if columns(text) <= width {
		return text
	}
	var b strings.Builder
	for g := uniseg.NewGraphemes(text); g.Next(); {
		if width -= g.Width(); width < 1 {
			break
		}
		b.WriteString(g.Str())
	}
	return b.String() + "…"
}

// columns is how wide text is on a terminal: a letter of Chinese takes two
// columns, an accent that is written apart none.
func columns(text string) int {
	return uniseg.StringWidth(text)
}
