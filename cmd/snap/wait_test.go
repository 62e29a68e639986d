// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	doing = `{"id":"1","seen":"a","status":"Doing","tasks":[{"id":"1","status":"Doing","summary":"Copy","log":["T INFO one"]},{"id":"2","status":"Do","summary":"Later"}]}`
	more  = `{"id":"1","seen":"b","status":"Doing","tasks":[{"id":"1","status":"Done","summary":"Copy","log":["T INFO one","T INFO two"]},{"id":"2","status":"Doing","summary":"Later"}]}`
	undo  = `{"id":"1","seen":"c","status":"Undoing","tasks":[{"id":"1","status":"Undoing","summary":"Copy","log":["T INFO one","T INFO two"]},{"id":"2","status":"Error","summary":"Later"}]}`
	ended = `{"id":"1","seen":"d","status":"Error","ready":true,"err":"cannot perform the following tasks:\n- Later (no)","tasks":[{"id":"1","status":"Undone","summary":"Copy"},{"id":"2","status":"Error","summary":"Later"}]}`
)

func TestPlainProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"POST /v2/snaps/probe": "change 1",
		"GET /v2/changes/1/wait": strings.Join([]string{doing, more, undo, ended}, "\n---\n")})
	status := w.execute(context.Background(), []string{"enable", "probe"})
	const want = "Copy\n  one\n  two\nLater\n(undo) Copy\nerror: cannot perform the following tasks:\n- Later (no)\n"
	if status != 1 || w.err.String() != want || w.out.Len() > 0 {
		t.Errorf("status %d, stderr\n%s\nwant\n%s", status, w.err.String(), want)
	}
}

func TestTerminalProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"POST /v2/snaps/probe": "change 1",
		"GET /v2/changes/1/wait": doing + "\n---\n" + `{"seen":"x","status":"Doing","tasks":[{"id":"2","status":"Doing","summary":"Count","progress":{"done":5,"total":10}}]}` + "\n---\n" + doneOne})
	w.terminal = true
	status := w.execute(context.Background(), []string{"enable", "probe"})
	drawn := w.err.String()
	if status != 0 || w.out.String() != "probe enabled\n" {
		t.Errorf("status %d, stdout %q", status, w.out.String())
	}
	if !strings.Contains(drawn, "Copy: one") || !strings.Contains(drawn, "Count") || !strings.Contains(drawn, "50%") {
		t.Errorf("drawn: %q", drawn)
	}
	if strings.Contains(drawn, "\n") {
		t.Errorf("what was drawn stays: %q", drawn)
	}
}

func TestInterruptAborts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"POST /v2/snaps/probe": "change 1", "POST /v2/changes/1": doing,
		"GET /v2/changes/1/wait": strings.Join([]string{doing, undo, ended}, "\n---\n")})
	aborted := make(chan struct{})
	w.hook = func(request string) {
		switch request {
		case "POST /v2/changes/1":
			close(aborted)
		case "GET /v2/changes/1/wait":
			select {
			case w.signals <- os.Interrupt: // the second is taken only if it is waited for
			default:
			}
			select {
			case <-aborted:
			case <-time.After(10 * time.Second):
				t.Error("no abort was sent")
			}
		}
	}
	w.signals = make(chan os.Signal, 1)
	once := w.signals
	w.interrupts = func() (<-chan os.Signal, func()) {
		c := make(chan os.Signal)
		go func() { c <- <-once }()
		return c, func() {}
	}
	status := w.execute(context.Background(), []string{"enable", "probe"})
	if status != 1 || strings.Count(w.asked(), "POST /v2/changes/1 {\"action\":\"abort\"}") != 1 {
		t.Errorf("status %d, asked\n%s", status, w.asked())
	}
	if !strings.Contains(w.err.String(), "(undo) Copy") {
		t.Errorf("it did not wait on: %s", w.err.String())
	}
}

func TestSecondInterruptLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"POST /v2/snaps/probe": "change 1", "POST /v2/changes/1": doing, "GET /v2/changes/1/wait": doing})
	release := make(chan struct{})
	w.hook = func(request string) {
		switch request {
		case "GET /v2/changes/1/wait":
			<-release // as long as nothing happens
		case "POST /v2/changes/1":
			w.signals <- os.Interrupt
		}
	}
	w.signals <- os.Interrupt
	status := w.execute(context.Background(), []string{"enable", "probe"})
	close(release)
	if status != 1 || w.err.String() != "error: change 1 goes on without waiting for it (see 'snap tasks 1')\n" {
		t.Errorf("status %d, stderr %q", status, w.err.String())
	}
}

func TestWarningsAreMentionedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"GET /v2/warnings": `[{"message":"not sealed","last-added":"2026-01-02T03:04:05Z"}]`})
	w.newWarning(t, "2026-01-02T03:04:05Z")
	if w.tellWarnings(); w.err.String() != "WARNING: one new warning, 'snap warnings' shows it\n" {
		t.Errorf("told %q", w.err.String())
	}
	w.err.Reset()
	if status := w.execute(context.Background(), []string{"warnings", "--abs-time"}); status != 0 || !strings.Contains(w.out.String(), "not sealed") {
		t.Errorf("warnings: %d %q %q", status, w.out.String(), w.err.String())
	}
	w.newWarning(t, "2026-01-02T03:04:05Z")
	if w.tellWarnings(); w.err.Len() > 0 {
		t.Errorf("told again: %q", w.err.String())
	}
}

// newWarning has the daemon mention a warning with its next answer.
func (w *world) newWarning(t *testing.T, when string) {
	t.Helper()
	w.mu.Lock()
	w.answers["GET /v2/system-info"] = []string{`{},"warning-count":1,"warning-timestamp":"` + when + `"`}
	w.mu.Unlock()
	if _, err := w.client.SystemInfo(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"short", 5, "short"}, {"longer", 5, "long…"}, {"日本語", 6, "日本語"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"},
		{"e\u0301te\u0301", 3, "e\u0301te\u0301"}, {"a\tb", 3, "a b"}, {"x", 0, ""}, {"日", 1, "…"},
	} {
		if got := cut(c.text, c.width); got != c.want || columns(got) > c.width {
			t.Errorf("cut(%q, %d) is %q of %d columns", c.text, c.width, got, columns(got))
		}
	}
}
