// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Epoch is the read/write epochs of a revision. Both lists are strictly
// increasing, have at most 10 entries and have one in common; an absent epoch
// is [0]/[0].
type Epoch struct {
	Read  []uint32 `json:"read"`
	Write []uint32 `json:"write"`
}

const maxEpochs = 10

// CanRead tells whether a revision of epoch e understands data that a revision
// of epoch other wrote. The zero Epoch counts as epoch 0.
func (e Epoch) CanRead(other Epoch) bool {
	read, written := e.Read, other.Write
	if len(read) == 0 {
		read = []uint32{0}
	}
	if len(written) == 0 {
		written = []uint32{0}
	}
	for _, w := range written {
		if slices.Contains(read, w) {
			return true
		}
	}
	return false
}

// String writes the epoch the way an author would: "0", "1*" or the two lists.
func (e Epoch) String() string {
	list := func(in []uint32) string {
		var out []string
		for _, n := range in {
			out = append(out, strconv.FormatUint(uint64(n), 10))
		}
		return strings.Join(out, ",")
	}
	switch {
	case len(e.Read) == 0 && len(e.Write) == 0:
		return "0"
	case slices.Equal(e.Read, e.Write) && len(e.Read) == 1:
		return list(e.Read)
	case len(e.Write) == 1 && len(e.Read) == 2 && e.Read[1] == e.Write[0] && e.Read[0]+1 == e.Read[1]:
		return list(e.Write) + "*"
	}
	return "{read: [" + list(e.Read) + "], write: [" + list(e.Write) + "]}"
}

const epochForms = `a number such as 1, "1*" (also reads epoch 0), or {read: [0, 1], write: [1]}`

// epoch reads the three forms of epoch:.
func (p *parser) epoch(path string, n *yaml.Node) Epoch {
	zero := Epoch{Read: []uint32{0}, Write: []uint32{0}}
	if n.Kind == yaml.MappingNode {
		return p.epochLists(path, n)
	}
	s, ok := p.str(path, n)
	if !ok || s == "" {
		return zero
	}
	digits, star := strings.CutSuffix(s, "*")
	v, ok := parseEpochNumber(digits)
	switch {
	case !ok:
		p.bad(path, "%s is not an epoch; use %s", quote(s), epochForms)
		return zero
	case star && v == 0:
		p.bad(path, "there is no epoch before 0 that \"0*\" could read")
		return zero
	case star:
		return Epoch{Read: []uint32{v - 1, v}, Write: []uint32{v}}
	}
	return Epoch{Read: []uint32{v}, Write: []uint32{v}}
}

// epochLists reads the form with lists: an absent read: equals write:, an
// absent write: is the newest of read:.
func (p *parser) epochLists(path string, n *yaml.Node) Epoch {
	var e Epoch
	p.mapping(path, n, func(key, path string, v *yaml.Node) {
		switch key {
		case "read":
			e.Read = p.epochList(path, v)
		case "write":
			e.Write = p.epochList(path, v)
		default:
			p.bad(path, "unknown key; an epoch has read and write only")
		}
	})
	switch {
	case e.Read == nil && e.Write == nil:
		e.Read, e.Write = []uint32{0}, []uint32{0}
	case e.Read == nil:
		e.Read = e.Write
	case e.Write == nil:
		e.Write = e.Read[len(e.Read)-1:]
	}
	if !e.CanRead(e) {
		p.bad(path, "read and write have no epoch in common, so the snap could not read its own data")
	}
	return e
}

func (p *parser) epochList(path string, n *yaml.Node) []uint32 {
	var out []uint32
	for _, s := range p.strs(path, n) {
		v, ok := parseEpochNumber(s)
		if !ok {
			p.bad(path, "%s is not an epoch number", quote(s))
			return nil
		}
		if len(out) > 0 && v <= out[len(out)-1] {
			p.bad(path, "epochs must be in increasing order without repetition")
			return nil
		}
		out = append(out, v)
	}
	if len(out) == 0 || len(out) > maxEpochs {
		p.bad(path, "must list 1 to %d epochs", maxEpochs)
		return nil
	}
	return out
}

func parseEpochNumber(s string) (uint32, bool) {
	v, err := strconv.ParseUint(s, 10, 31)
	return uint32(v), err == nil && strconv.FormatUint(v, 10) == s
}
