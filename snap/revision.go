// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Revision numbers a snap's revisions: positive from a store, negative when
// local ("x1" is -1), zero when unset.
type Revision int

// String returns "7", "x1" or "unset".
func (r Revision) String() string {
	switch {
	case r < 0:
		return "x" + strconv.Itoa(-int(r))
	case r == 0:
		return "unset"
	}
	return strconv.Itoa(int(r))
}

// Unset tells whether no revision is meant.
func (r Revision) Unset() bool { return r == 0 }

// Local tells whether the revision came from a file.
func (r Revision) Local() bool { return r < 0 }

// ParseRevision reads "7" or "x1".
func ParseRevision(s string) (Revision, error) {
	digits, local := strings.CutPrefix(s, "x")
	n, err := strconv.Atoi(digits)
	if err != nil || n <= 0 || strconv.Itoa(n) != digits {
		return 0, fmt.Errorf("cannot read revision %q: want a number, or x and a number", s)
	}
	if local {
		n = -n
	}
	return Revision(n), nil
}

// MarshalJSON writes the revision as a string, as snapd's API does.
func (r Revision) MarshalJSON() ([]byte, error) { return json.Marshal(r.String()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Revision) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("cannot read revision: %w", err)
	}
	if s == "unset" || s == "" {
		*r = 0
		return nil
	}
	var err error
	*r, err = ParseRevision(s)
	return err
}

// MarshalText lets revisions be the keys of a JSON map.
func (r Revision) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Revision) UnmarshalText(b []byte) error {
	v, err := ParseRevision(string(b))
	*r = v
	return err
}
