// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"fmt"
	"strings"
)

// Problem is one finding about one key of a snap.yaml.
type Problem struct {
	Key     string // path of the key, such as "apps.web.stop-timeout"; "" is the document
	Message string // what was found and what is allowed
}

func (p Problem) String() string {
	if p.Key == "" {
		return p.Message
	}
	return p.Key + ": " + p.Message
}

// InvalidError says what is wrong with a snap.yaml, or with the tree of a snap.
// All findings are listed, at most 50.
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string { return listProblems("cannot read snap.yaml", e.Problems) }

// UnsupportedError lists what a well-formed snap needs and this version of
// endured cannot do, by key.
type UnsupportedError struct {
	Snap     string
	Problems []Problem
}

func (e *UnsupportedError) Error() string {
	return listProblems(fmt.Sprintf("cannot use snap %q here", e.Snap), e.Problems)
}

// FileError says that a .snap file is not readable as a squashfs image that
// holds a snap. It prints as "cannot read snap file: REASON".
type FileError struct{ Err error }

func (e *FileError) Error() string { return "cannot read snap file: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *FileError) Unwrap() error { return e.Err }

func listProblems(intro string, list []Problem) string {
	if len(list) == 1 {
		return intro + ": " + list[0].String()
	}
	var b strings.Builder
	b.WriteString(intro + ":")
	for _, p := range list {
		b.WriteString("\n- " + p.String())
	}
	return b.String()
}

// quote quotes what the author wrote, cut to a length that keeps an error readable.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}
