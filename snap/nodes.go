// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Limits of a snap.yaml. Real ones are a few kilobytes; the limits are there
// so that a hostile one costs neither memory nor time.
const (
	maxYAML      = 1 << 20
	maxDepth     = 32
	maxNodes     = 50000
	maxAliases   = 100
	maxProblems  = 50
	maxNotes     = 100
	maxApps      = 500
	maxSockets   = 64
	maxPlugs     = 500
	maxEnv       = 500
	maxEnvValue  = 32 << 10
	maxCommand   = 8 << 10
	maxListItems = 1000
)

// parser walks a YAML tree and collects what it finds wrong.
type parser struct {
	problems []Problem
	notes    []string
	needs    []Problem // what Supported will refuse
}

func (p *parser) bad(path, format string, args ...any) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, Problem{Key: path, Message: fmt.Sprintf(format, args...)})
	}
}

func (p *parser) need(path, format string, args ...any) {
	if len(p.needs) < maxProblems {
		p.needs = append(p.needs, Problem{Key: path, Message: fmt.Sprintf(format, args...)})
	}
}

func (p *parser) note(path, format string, args ...any) {
	if len(p.notes) < maxNotes {
		p.notes = append(p.notes, Problem{Key: path, Message: fmt.Sprintf(format, args...)}.String())
	}
}

// unknown notes a key that nothing reads, and the key it may have been meant to be.
func (p *parser) unknown(path, key string, known []string) {
	if k := nearest(key, known); k != "" {
		p.note(path, "unknown key, probably a typo of %q", k)
		return
	}
	p.note(path, "unknown key, ignored")
}

// readTree parses one YAML document within the limits.
func readTree(data []byte) (root *yaml.Node, err error) {
	if len(data) > maxYAML {
		return nil, fmt.Errorf("the document has %d bytes; at most %d are allowed", len(data), maxYAML)
	}
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, fmt.Errorf("not YAML: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the document is empty")
		}
		return nil, notYAML(err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, errors.New("there is more than one YAML document")
	} else if !errors.Is(err, io.EOF) {
		return nil, notYAML(err)
	}
	c := counter{}
	if err := c.count(&doc, 0); err != nil {
		return nil, err
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("the document is empty")
	}
	return follow(doc.Content[0]), nil
}

func notYAML(err error) error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if len(msg) > 300 {
		msg = msg[:300] + "…"
	}
	return fmt.Errorf("not YAML: %s", strings.ToValidUTF8(msg, "?"))
}

// counter measures a tree as it is after every alias has been expanded.
type counter struct{ nodes, aliases int }

func (c *counter) count(n *yaml.Node, depth int) error {
	c.nodes++
	switch {
	case depth > maxDepth:
		return fmt.Errorf("line %d: nested more than %d levels deep", n.Line, maxDepth)
	case c.nodes > maxNodes:
		return fmt.Errorf("there are more than %d values, aliases expanded", maxNodes)
	case n.Kind == yaml.AliasNode:
		if c.aliases++; c.aliases > maxAliases {
			return fmt.Errorf("there are more than %d aliases", maxAliases)
		}
		return c.count(n.Alias, depth+1)
	}
	for _, child := range n.Content {
		if err := c.count(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func kindName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return quote(n.Value)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// mapping calls each for the entries of a map in the author's order. Nothing
// (null) counts as an empty map. A key that appears twice is a problem.
func (p *parser) mapping(path string, n *yaml.Node, each func(key, path string, v *yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.bad(path, "must be a map, found %s", kindName(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := follow(n.Content[i])
		if k.Kind != yaml.ScalarNode || isNull(k) || k.ShortTag() == "!!merge" {
			p.bad(path, "line %d: the keys of a map must be plain words", k.Line)
			continue
		}
		sub := join(path, k.Value)
		if seen[k.Value] {
			p.bad(sub, "appears twice (line %d)", k.Line)
			continue
		}
		seen[k.Value] = true
		each(k.Value, sub, follow(n.Content[i+1]))
	}
}

// join extends the path of a key; the key itself may be hostile.
func join(path, key string) string {
	if len(key) > 60 {
		key = strings.ToValidUTF8(key[:60], "?") + "…"
	}
	if _, found := controlRune(key, ""); found || key == "" {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// str reads a scalar as the author wrote it; nothing is "". The text has no
// control characters.
func (p *parser) str(path string, n *yaml.Node) (string, bool) {
	s, ok := p.text(path, n)
	if !ok {
		return "", false
	}
	if r, found := controlRune(s, ""); found {
		p.bad(path, "holds the control character %U, which is not allowed here", r)
		return "", false
	}
	return s, true
}

// text reads a scalar that may hold any character.
func (p *parser) text(path string, n *yaml.Node) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		p.bad(path, "must be a single value, found %s", kindName(n))
		return "", false
	}
	switch n.ShortTag() {
	case "!!null":
		return "", true
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
		return n.Value, true
	}
	p.bad(path, "must be a plain value, found one with the tag %s", quote(n.Tag))
	return "", false
}

// strs reads a list of scalars; nothing is an empty list.
func (p *parser) strs(path string, n *yaml.Node) []string {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.bad(path, "must be a list, found %s", kindName(n))
		return nil
	}
	if len(n.Content) > maxListItems {
		p.bad(path, "has %d entries; at most %d are allowed", len(n.Content), maxListItems)
		return nil
	}
	var out []string
	for i, c := range n.Content {
		sub := fmt.Sprintf("%s[%d]", path, i)
		s, ok := p.str(sub, follow(c))
		if ok && s == "" {
			p.bad(sub, "must not be empty")
			continue
		}
		if ok {
			out = append(out, s)
		}
	}
	return out
}

// word reads a scalar that must be one of allowed; unset is "".
func (p *parser) word(path string, n *yaml.Node, allowed ...string) string {
	s, ok := p.str(path, n)
	if !ok || s == "" {
		return ""
	}
	for _, a := range allowed {
		if s == a {
			return s
		}
	}
	p.bad(path, "%s is not allowed; use %s", quote(s), either(allowed))
	return ""
}

func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// boolean reads true or false.
func (p *parser) boolean(path string, n *yaml.Node, unset bool) bool {
	if isNull(n) {
		return unset
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		p.bad(path, "must be true or false, found %s", kindName(n))
		return unset
	}
	return strings.EqualFold(n.Value, "true")
}

// duration reads a Go duration that is not negative; unset is 0.
func (p *parser) duration(path string, n *yaml.Node) time.Duration {
	s, ok := p.str(path, n)
	if !ok || s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		p.bad(path, "%s is not a duration; write a number with a unit (ns, us, ms, s, m, h), such as 30s or 1m30s", quote(s))
		return 0
	case d < 0:
		p.bad(path, "%s is negative; a duration is 0 or more", quote(s))
		return 0
	}
	return d
}

// nearest returns the known key within two edits of key, "" if there is none.
// Short words must be nearer, or everything would resemble something.
func nearest(key string, known []string) string {
	if len(key) > 40 {
		return ""
	}
	most := 2
	if len(key) < 5 {
		most = 1
	}
	best := ""
	for _, k := range known {
		if d := editDistance(key, k); d <= most {
			best, most = k, d-1
		}
	}
	return best
}

func editDistance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
		}
		prev = cur
	}
	return prev[len(b)]
}
