// SPDX-License-Identifier: Apache-2.0

package configstate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// MaxOptions is how large the options of one snap may get, in bytes of JSON.
const MaxOptions = 1 << 20

// maxOptionDepth bounds how deep values nest.
const maxOptionDepth = 64

var optionPart = regexp.MustCompile(`^[a-z0-9](?:-?[a-z0-9])*$`)

// Options are the options of one snap: a tree of JSON values. Numbers are
// json.Number, so that they stay what they were.
type Options map[string]any

// ReadOptions decodes stored options; none are an empty tree.
func ReadOptions(raw json.RawMessage) (Options, error) {
	o := Options{}
	if len(raw) == 0 {
		return o, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		return nil, fmt.Errorf("cannot read options: %w", err)
	}
	return o, nil
}

// Raw encodes options for storing. The error says when they got too large.
func (o Options) Raw() (json.RawMessage, error) {
	raw, err := json.Marshal(o)
	if err == nil && len(raw) > MaxOptions {
		err = fmt.Errorf("they would take %d bytes; at most %d are allowed", len(raw), MaxOptions)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot store options: %w", err)
	}
	return raw, nil
}

// CheckOption tells what is wrong with a dotted key.
func CheckOption(key string) error {
	for _, part := range strings.Split(key, ".") {
		if !optionPart.MatchString(part) {
			return fmt.Errorf("invalid option name: %q (want lower-case letters, digits and single inner dashes, with dots between)", key)
		}
	}
	return nil
}

// Lookup returns the value under a dotted key.
func (o Options) Lookup(key string) (any, bool) {
	var at any = map[string]any(o)
	for _, part := range strings.Split(key, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, ok = object[part]; !ok {
			return nil, false
		}
	}
	return at, true
}

// Select returns what is set under the keys, by key; no keys are the whole
// tree. The error is a *NoOptionError of that snap where there is nothing, or
// says what is wrong with a key.
func (o Options) Select(snapName string, keys []string) (map[string]any, error) {
	if len(keys) == 0 {
		return o, nil
	}
	out := map[string]any{}
	for _, key := range keys {
		if err := CheckOption(key); err != nil {
			return nil, err
		}
		v, ok := o.Lookup(key)
		if !ok {
			return nil, &NoOptionError{Snap: snapName, Key: key}
		}
		out[key] = v
	}
	return out, nil
}

// Apply sets values by dotted key, as JSON decodes them: a value takes the
// place of what is there, whole; null takes it away, with what is below. Keys
// above others are applied first. Options that are changed are copied: o stays
// what it was.
func (o Options) Apply(snapName string, values map[string]any) (Options, error) {
	next := maps.Clone(map[string]any(o))
	if next == nil {
		next = map[string]any{}
	}
	keys := slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		if d := strings.Count(a, ".") - strings.Count(b, "."); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, key := range keys {
		if err := CheckOption(key); err != nil {
			return nil, err
		}
		if err := checkValue(key, values[key], 0); err != nil {
			return nil, err
		}
		if err := assign(next, snapName, key, strings.Split(key, "."), pruned(values[key])); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// assign puts a value under a path, cloning the objects on its way.
func assign(at map[string]any, snapName, key string, parts []string, value any) error {
	name := parts[0]
	if len(parts) == 1 {
		if value == nil {
			delete(at, name)
		} else {
			at[name] = value
		}
		return nil
	}
	below, there := at[name]
	object, ok := below.(map[string]any)
	switch {
	case ok:
		object = maps.Clone(object)
	case there && value == nil:
		return nil // nothing is below it
	case there:
		return fmt.Errorf("cannot set %q: snap %q option %q is not a map", key, snapName, strings.TrimSuffix(key, "."+strings.Join(parts[1:], ".")))
	case value == nil:
		return nil
	default:
		object = map[string]any{}
	}
	if err := assign(object, snapName, key, parts[1:], value); err != nil {
		return err
	}
	at[name] = object
	return nil
}

// pruned is a value without the members that are null.
func pruned(v any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for k, below := range object {
		if below != nil {
			out[k] = pruned(below)
		}
	}
	return out
}

// checkValue looks at the names inside of objects.
func checkValue(key string, v any, depth int) error {
	if depth > maxOptionDepth {
		return fmt.Errorf("cannot set %q: it is nested more than %d deep", key, maxOptionDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			if !optionPart.MatchString(k) {
				return CheckOption(key + "." + k)
			}
			if err := checkValue(key, below, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for _, below := range v {
			if err := checkValue(key, below, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
