// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"

	"endured/snap"
)

// IndexName is the file of a directory store that lists what is in it.
const IndexName = "index.yaml"

const (
	maxIndex   = 16 << 20
	maxEntries = 100_000
)

// Index is the list of a directory store:
//
//	snaps:
//	  - name: web
//	    revision: 2
//	    version: "1.4"
//	    channels: [latest/stable, latest/edge]
//	    file: web_2.snap
//	    size: 4096
//	    sha3-384: 0c63…
//
// A channel offers the highest revision that names it. One that nothing names
// is closed: who follows it gets what the next more stable channel has.
type Index struct {
	Snaps []Entry `yaml:"snaps"`
}

// Entry is one revision of one snap.
type Entry struct {
	Name     string    `yaml:"name" json:"name"`
	Revision int       `yaml:"revision" json:"revision"`
	Version  string    `yaml:"version,omitempty" json:"version,omitempty"`
	Channels []Channel `yaml:"channels,flow" json:"channels"`
	File     string    `yaml:"file" json:"file"` // in the directory of the index
	Size     int64     `yaml:"size" json:"size"` // in bytes
	SHA3     string    `yaml:"sha3-384" json:"sha3-384"`
}

var sha3Pattern = regexp.MustCompile(`^[0-9a-f]{96}$`)

// MarshalYAML writes the channel's full name.
func (c Channel) MarshalYAML() (any, error) { return c.String(), nil }

// UnmarshalYAML reads a channel.
func (c *Channel) UnmarshalYAML(n *yaml.Node) error {
	var s string
	if err := n.Decode(&s); err != nil {
		return err
	}
	return c.UnmarshalText([]byte(s))
}

// ParseIndex reads and checks an index. The error names the entry and the key.
func ParseIndex(data []byte) (*Index, error) {
	if len(data) > maxIndex {
		return nil, fmt.Errorf("it has %d bytes; at most %d are allowed", len(data), maxIndex)
	}
	var out Index
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it is not an index: %w", err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is not an index: more than one document")
	}
	if len(out.Snaps) > maxEntries {
		return nil, fmt.Errorf("it has %d entries; at most %d are allowed", len(out.Snaps), maxEntries)
	}
	seen := map[string]bool{}
	for i := range out.Snaps {
		e := &out.Snaps[i]
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		key := fmt.Sprintf("%s/%d", e.Name, e.Revision)
		if seen[key] {
			return nil, fmt.Errorf("entry %d: revision %d of snap %q is there twice", i+1, e.Revision, e.Name)
		}
		seen[key] = true
	}
	return &out, nil
}

func (e *Entry) check() error {
	if err := snap.CheckName(e.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	switch {
	case e.Revision <= 0 || e.Revision > 1<<30:
		return fmt.Errorf("revision: %d is not the revision of a store, which begin at 1", e.Revision)
	case e.Size <= 0:
		return fmt.Errorf("size: %d is not the size of a snap", e.Size)
	case !sha3Pattern.MatchString(e.SHA3):
		return errors.New("sha3-384: must be 96 hexadecimal digits in lower case")
	case e.File == "" || e.File != filepath.Base(e.File) || strings.HasPrefix(e.File, ".") || strings.ContainsAny(e.File, "\x00\n"):
		return fmt.Errorf("file: %q is not the name of a file beside the index", e.File)
	case len(e.Version) > 32:
		return errors.New("version: has more than 32 bytes")
	}
	return nil
}

func (e *Entry) in(c Channel) bool {
	for _, have := range e.Channels {
		if have == c {
			return true
		}
	}
	return false
}

func (e *Entry) snap(channel string) *Snap {
	return &Snap{
		Name: e.Name, Revision: snap.Revision(e.Revision), Version: e.Version, Channel: channel,
		SHA3: e.SHA3, Size: e.Size, Ref: e.File,
	}
}

// of lists the entries of one snap.
func (x *Index) of(name string) []*Entry {
	var out []*Entry
	for i := range x.Snaps {
		if x.Snaps[i].Name == name {
			out = append(out, &x.Snaps[i])
		}
	}
	return out
}

// released returns what a channel has itself, nil if it is closed.
func released(list []*Entry, c Channel) *Entry {
	var best *Entry
	for _, e := range list {
		if e.in(c) && (best == nil || e.Revision > best.Revision) {
			best = e
		}
	}
	return best
}

// find answers an action.
func (x *Index) find(a Action) (*Snap, error) {
	list := x.of(a.Name)
	if len(list) == 0 {
		return nil, &NotFoundError{Name: a.Name}
	}
	if !a.Revision.Unset() {
		for _, e := range list {
			if snap.Revision(e.Revision) == a.Revision {
				return e.snap(""), nil
			}
		}
		return nil, &RevisionError{Name: a.Name, Revision: a.Revision}
	}
	for _, c := range a.Channel.followed() {
		if e := released(list, c); e != nil {
			return e.snap(c.String()), nil
		}
	}
	var open []string
	for _, s := range releases(list) {
		open = append(open, s.Channel)
	}
	return nil, &ChannelError{Name: a.Name, Channel: a.Channel, Open: open}
}
