// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"endured/overlord/seal"
)

// writes are the ways of writing that a crash test tries, as its actor.
func writes() []string {
	return []string{"echo x >&7", "echo x >&8", "echo >>$D/f", "echo >$D/new && rm $D/new", "echo >$D/sub/new && rm $D/sub/new"}
}

// flagged lists what "lsattr -R" shows as immutable or append-only, by name.
func flagged(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if flags, path, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.ContainsAny(flags, "ia") && !strings.Contains(flags, "/") {
			names = append(names, filepath.Base(path))
		}
	}
	return names
}

// crashed is a world with a process that stands in the data, so that everything
// is flagged, or elsewhere, so that the files are that it has open; some files
// are immutable or append-only for reasons of their own.
func crashed(t *testing.T, where string) (*world, *actor) {
	w := newWorld(t)
	w.needsFlags()
	for name, flag := range map[string]string{"own": "+i", "log": "+a"} {
		w.write(name, "x")
		if out, err := exec.Command("chattr", flag, filepath.Join(w.data, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	a := w.actor(true)
	a.must("exec 7>>f && ln f sub/g && exec 8>>sub/h")
	if where == "outside" {
		a.must("cd /")
	}
	return w, a
}

func (w *world) sealing() error {
	_, err := w.m.Seal(w.t.Context(), seal.Spec{Record: w.rec, Revision: 1, Successor: 2})
	return err
}

func (w *world) unsealing() error { return w.m.Unseal(w.t.Context(), w.rec, 1) }

// TestCrash kills the daemon after each step of a seal, and of taking it back.
// Then the next one seals, or unseals, whole.
func TestCrash(t *testing.T) {
	t.Parallel()
	for where, want := range map[string]string{"inside": "seal:do:flag", "outside": "seal:do:append-only"} {
		w, _ := crashed(t, where)
		w.seal()
		w.unseal()
		seen := slices.Compact(slices.Clone(w.points))
		for _, want := range []string{want, "seal:do:noted", "seal:do:profiles", "seal:do:mount", "seal:do:mounts", "seal:do:marked", "seal:do:files",
			"seal:undo:files", "seal:undo:mounts", "seal:undo:forgotten"} {
			if !slices.Contains(seen, want) {
				t.Errorf("%s is not passed, but %v", want, seen)
			}
		}
		for _, point := range seen {
			for _, then := range []string{"seals", "unseals"} {
				t.Run(where+"-"+point+"-"+then, func(t *testing.T) {
					t.Parallel()
					crash(t, where, point, then)
				})
			}
		}
	}
}

func crash(t *testing.T, where, point, then string) {
	w, a := crashed(t, where)
	if point[:len("seal:do")] == "seal:do" {
		w.struck(point, w.sealing)
	} else {
		w.seal()
		w.struck(point, w.unsealing)
	}
	if then == "seals" {
		if s := w.seal(); len(s.Writable) != 0 {
			t.Errorf("%+v", s)
		}
		for _, c := range writes() {
			a.mustNot(c)
		}
		a.must("cat $D/f $D/sub/g")
	}
	w.unseal()
	for _, c := range writes() {
		a.must(c)
	}
	a.must("echo >>$D/log")
	a.mustNot("echo >$D/log")
	a.mustNot("echo >>$D/own")
	if out, err := exec.Command("lsattr", "-R", w.data).Output(); err != nil || slices.ContainsFunc(flagged(string(out)), func(f string) bool { return f != "own" && f != "log" }) {
		t.Errorf("flags are left (%v):\n%s", err, out)
	}
}
