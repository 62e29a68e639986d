// SPDX-License-Identifier: Apache-2.0

// Package configstate keeps what the operator has set: the system settings. A
// setting is a dotted key with a value of its own; whatever it does is done by
// those who ask for it here, but for the bound of a stop, which systemd has to
// know beforehand and the task "configure-system" tells it.
package configstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"endured/overlord/lifecycle"
	"endured/overlord/state"
	"endured/snap"
)

// The settings.
const (
	// stopTimeoutMax is a Go duration: no stop-timeout is longer.
	stopTimeoutMax = "refresh.stop-timeout-max"
	// refreshMode, with ".<snap>.<app>", is a refresh-mode in place of the
	// service's own.
	refreshMode = "refresh-mode"
	// retain is how many revisions of a snap are kept, the current one included.
	retain = "refresh.retain"
	// hold and timer are when snaps are not refreshed, and when they are, by
	// themselves: they are kept for that.
	hold  = "refresh.hold"
	timer = "refresh.timer"
	// storePath is the directory that snaps come from.
	storePath = "store.path"
)

// The bounds of retain, which are snapd's.
const (
	leastRetained = 2
	mostRetained  = 20
)

// plain lists the settings that have one key each.
func plain() []string { return []string{stopTimeoutMax, retain, hold, timer, storePath} }

// shortest is the smallest ceiling: systemd takes less for "no limit".
const shortest = time.Millisecond

// Settings are values by dotted key.
type Settings map[string]string

// NoOptionError says that nothing is set under a key.
type NoOptionError struct{ Snap, Key string }

func (e *NoOptionError) Error() string {
	return fmt.Sprintf("snap %q has no %q configuration option", e.Snap, e.Key)
}

const settingsKey = "config/system"

// load returns the settings; none are an empty map.
func load(tx *state.Tx) (Settings, error) {
	s := Settings{}
	if err := tx.Get(settingsKey, &s); err != nil && !errors.Is(err, state.ErrNoState) {
		return nil, fmt.Errorf("cannot read the system settings: %w", err)
	}
	return s, nil
}

func read(st *state.State) (s Settings, err error) {
	err = st.View(func(tx *state.Tx) (err error) {
		s, err = load(tx)
		return err
	})
	return s, err
}

// StopTimeoutMax is the operator's ceiling on every stop-timeout, 0 for none.
// A state that cannot be read has none: that is never harsher than declared.
func StopTimeoutMax(st *state.State) time.Duration {
	s, err := read(st)
	if err != nil {
		return 0
	}
	return s.ceiling()
}

func (s Settings) ceiling() time.Duration {
	d, err := time.ParseDuration(s[stopTimeoutMax])
	if err != nil {
		return 0
	}
	return d
}

// Retain is how many revisions of a snap the operator wants kept, fallback if
// nothing is set.
func Retain(st *state.State, fallback int) int {
	s, err := read(st)
	if err != nil {
		return fallback
	}
	if n, err := strconv.Atoi(s[retain]); err == nil {
		return n
	}
	return fallback
}

// StorePath is the directory of the store, fallback if nothing is set.
func StorePath(st *state.State, fallback string) string {
	s, err := read(st)
	if err != nil || s[storePath] == "" {
		return fallback
	}
	return s[storePath]
}

// RefreshTimes are the settings refresh.timer and refresh.hold, "" where not set.
func RefreshTimes(st *state.State) (timerText, holdText string) {
	s, err := read(st)
	if err != nil {
		return "", ""
	}
	return s[timer], s[hold]
}

// Override returns the operator's refresh-modes of a snap's services, nil for none.
func Override(st *state.State, snapName string) (lifecycle.Override, error) {
	s, err := read(st)
	if err != nil {
		return nil, err
	}
	var out lifecycle.Override
	for key, word := range s {
		if app, ok := strings.CutPrefix(key, refreshMode+"."+snapName+"."); ok {
			if out == nil {
				out = lifecycle.Override{}
			}
			out[app] = snap.RefreshMode(word)
		}
	}
	return out, nil
}

// Get returns what is set under dotted keys, by key: a string, or an object for
// a key that others begin with. No keys stand for everything, at its top. The
// error is a *NoOptionError for name where there is nothing.
func Get(st *state.State, name string, keys []string) (map[string]any, error) {
	s, err := read(st)
	if err != nil {
		return nil, err
	}
	tree := s.tree()
	if len(keys) == 0 {
		return tree, nil
	}
	out := map[string]any{}
	for _, key := range keys {
		var at any = tree
		for _, part := range strings.Split(key, ".") {
			if object, ok := at.(map[string]any); ok {
				at = object[part]
			} else {
				at = nil
			}
		}
		if at == nil {
			return nil, &NoOptionError{Snap: name, Key: key}
		}
		out[key] = at
	}
	return out, nil
}

func (s Settings) tree() map[string]any {
	root := map[string]any{}
	for key, value := range s {
		at := root
		parts := strings.Split(key, ".")
		for _, p := range parts[:len(parts)-1] {
			next, ok := at[p].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[p] = next
			}
			at = next
		}
		at[parts[len(parts)-1]] = value
	}
	return root
}

// Patch changes settings. It was checked.
type Patch struct {
	Set   Settings `json:"set,omitempty"`
	Unset []string `json:"unset,omitempty"` // keys, with all that begins with them and a dot
}

// Keys lists what the patch changes, sorted.
func (p *Patch) Keys() []string {
	return slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(p.Set)), p.Unset)))
}

// Bounds tells whether the patch may change the ceiling on stop-timeouts.
func (p *Patch) Bounds() bool {
	if _, ok := p.Set[stopTimeoutMax]; ok {
		return true
	}
	return slices.ContainsFunc(p.Unset, func(key string) bool { return under(stopTimeoutMax, key) })
}

// under tells whether a key is another or begins with it.
func under(key, prefix string) bool { return key == prefix || strings.HasPrefix(key, prefix+".") }

func (p *Patch) apply(s Settings) {
	for key := range s {
		if slices.ContainsFunc(p.Unset, func(gone string) bool { return under(key, gone) }) {
			delete(s, key)
		}
	}
	maps.Copy(s, p.Set)
}

// inverse is the patch that takes p back, where s is set before it.
func (p *Patch) inverse(s Settings) *Patch {
	back := &Patch{Set: Settings{}, Unset: p.Keys()}
	for key, value := range s {
		if slices.ContainsFunc(back.Unset, func(changed string) bool { return under(key, changed) }) {
			back.Set[key] = value
		}
	}
	return back
}

// MakePatch checks values by dotted key, as JSON decodes them: null unsets, an
// object is about the keys below.
func MakePatch(values map[string]any) (*Patch, error) {
	p := &Patch{Set: Settings{}}
	for key, v := range values {
		if err := p.add(key, v); err != nil {
			return nil, err
		}
	}
	slices.Sort(p.Unset)
	return p, nil
}

func (p *Patch) add(key string, v any) error {
	switch v := v.(type) {
	case nil:
		if !known(key, true) {
			return unsupported("unset", key)
		}
		p.Unset = append(p.Unset, key)
		return nil
	case map[string]any:
		if !known(key, true) {
			return unsupported("set", key)
		}
		for k, below := range v {
			if err := p.add(key+"."+k, below); err != nil {
				return err
			}
		}
		return nil
	}
	if !known(key, false) {
		return unsupported("set", key)
	}
	word, ok := v.(string)
	if n, number := v.(json.Number); number && key == retain {
		word, ok = n.String(), true
	}
	if !ok {
		return fmt.Errorf("cannot set %q to %v: want %s", key, v, wanted(key))
	}
	if err := check(key, word); err != nil {
		return err
	}
	p.Set[key] = word
	return nil
}

// known tells whether there is a setting of that key, or one below it.
func known(key string, orBelow bool) bool {
	if slices.Contains(plain(), key) || orBelow && (key == "refresh" || key == "store" || key == refreshMode) {
		return true
	}
	parts := strings.Split(key, ".")
	if parts[0] != refreshMode || slices.Contains(parts[1:], "") {
		return false
	}
	return len(parts) == 3 || orBelow && len(parts) == 2
}

func unsupported(verb, key string) error {
	return fmt.Errorf("cannot %s %q: the system has no such setting; there are %s and %s.<snap>.<app>",
		verb, key, strings.Join(plain(), ", "), refreshMode)
}

func wanted(key string) string {
	switch key {
	case stopTimeoutMax:
		return `a duration such as "10s" or "1m30s"`
	case retain:
		return fmt.Sprintf("a number from %d to %d", leastRetained, mostRetained)
	case hold:
		return `a time such as "2030-01-31T10:00:00Z" or "forever"`
	case timer:
		return `a schedule such as "fri,23:00-01:00"`
	case storePath:
		return "the absolute path of a directory"
	}
	return "the word of a refresh-mode"
}

func check(key, word string) error {
	refused := fmt.Errorf("cannot set %q to %q: want %s", key, word, wanted(key))
	switch key {
	case stopTimeoutMax:
		return checkCeiling(key, word)
	case retain:
		if n, err := strconv.Atoi(word); err != nil || n < leastRetained || n > mostRetained || strconv.Itoa(n) != word {
			return refused
		}
	case hold:
		if _, err := time.Parse(time.RFC3339, word); err != nil && word != "forever" {
			return refused
		}
	case timer:
		if err := snap.CheckTimer(word); err != nil {
			return fmt.Errorf("cannot set %q: %w", key, err)
		}
	case storePath:
		if !filepath.IsAbs(word) || filepath.Clean(word) != word || strings.ContainsFunc(word, unicode.IsControl) {
			return refused
		}
	default:
		if err := snap.CheckRefreshMode(word); err != nil {
			return fmt.Errorf("cannot set %q: %w", key, err)
		}
	}
	return nil
}

func checkCeiling(key, word string) error {
	d, err := time.ParseDuration(word)
	switch {
	case err != nil:
		return fmt.Errorf("cannot set %q to %q: want %s", key, word, wanted(key))
	case d < shortest:
		return fmt.Errorf("cannot set %q to %q: want %s or more; 'snap unset system %s' takes the ceiling away", key, word, shortest, key)
	}
	return nil
}

// Service is one that a patch names.
type Service struct{ Key, Snap, App string }

// Services lists the services whose refresh-mode the patch sets, by key.
func (p *Patch) Services() []Service {
	var out []Service
	for _, key := range slices.Sorted(maps.Keys(p.Set)) {
		if parts := strings.Split(key, "."); parts[0] == refreshMode {
			out = append(out, Service{Key: key, Snap: parts[1], App: parts[2]})
		}
	}
	return out
}
