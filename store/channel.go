// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Channel is where revisions are released: track/risk, with a branch or
// without. The zero value is latest/stable.
type Channel struct{ track, risk, branch string }

// risks are from the most to the least stable.
var risks = []string{"stable", "candidate", "beta", "edge"}

var channelPart = regexp.MustCompile(`^[a-zA-Z0-9](?:[-.a-zA-Z0-9]{0,26}[a-zA-Z0-9])?$`)

// ParseChannel reads "track", "risk", "track/risk", "risk/branch" or
// "track/risk/branch". "" is latest/stable.
func ParseChannel(s string) (Channel, error) {
	if s == "" {
		return Channel{}, nil
	}
	bad := fmt.Errorf("cannot use channel %q: want TRACK, RISK, TRACK/RISK or TRACK/RISK/BRANCH, RISK being one of %s", s, strings.Join(risks, ", "))
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if !channelPart.MatchString(p) {
			return Channel{}, bad
		}
	}
	isRisk := func(n int) bool { return n < len(parts) && slices.Contains(risks, parts[n]) }
	switch {
	case len(parts) > 3, len(parts) == 3 && !isRisk(1), len(parts) == 2 && !isRisk(0) && !isRisk(1):
		return Channel{}, bad
	case len(parts) == 1 && !isRisk(0):
		return Channel{track: parts[0]}.short(), nil
	case isRisk(0) && !isRisk(1):
		parts = append([]string{"latest"}, parts...)
	}
	c := Channel{track: parts[0], risk: parts[1]}
	if len(parts) == 3 {
		c.branch = parts[2]
	}
	return c.short(), nil
}

// short makes equal channels equal values.
func (c Channel) short() Channel {
	if c.track == "latest" {
		c.track = ""
	}
	if c.risk == "stable" {
		c.risk = ""
	}
	return c
}

// String returns the full name, such as latest/stable.
func (c Channel) String() string {
	out := c.Track() + "/" + c.Risk()
	if c.branch != "" {
		out += "/" + c.branch
	}
	return out
}

// Track returns the track, "latest" by default.
func (c Channel) Track() string {
	if c.track == "" {
		return "latest"
	}
	return c.track
}

// Risk returns the risk, "stable" by default.
func (c Channel) Risk() string {
	if c.risk == "" {
		return "stable"
	}
	return c.risk
}

// Resolve reads a channel that is named relative to c: a risk alone keeps c's
// track.
func (c Channel) Resolve(s string) (Channel, error) {
	out, err := ParseChannel(s)
	first, _, _ := strings.Cut(s, "/")
	if err == nil && slices.Contains(risks, first) {
		out.track = c.track
	}
	return out, err
}

// followed lists the channels that c gets its revisions from: the first that is
// open counts. A branch falls back to its risk, and a risk to the next more
// stable one.
func (c Channel) followed() []Channel {
	out := []Channel{c}
	c.branch = ""
	for n := slices.Index(risks, c.Risk()); n >= 0; n-- {
		next := Channel{track: c.track, risk: risks[n]}.short()
		if next != out[0] {
			out = append(out, next)
		}
	}
	return out
}

// MarshalText writes the full name.
func (c Channel) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what ParseChannel reads.
func (c *Channel) UnmarshalText(b []byte) (err error) {
	*c, err = ParseChannel(string(b))
	return err
}
