// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"endured/osutil"
	"endured/osutil/treecopy"
)

// FlagMark says which flags in the data of a revision are a seal's. It lies in
// the file that dirs.FlagMark names, entries ending with a zero byte:
//
//	/PATH    was immutable before, and everything else that is flagged is the seal's
//	+/PATH   likewise append-only
//	=INODE   is the seal's, and what has no entry of this kind is not
//	=+INODE  likewise, and was append-only before
//
// An empty one says that all flags are the seal's.
type FlagMark struct {
	// Ours are the files that a seal flags, with their flags before; nil if it may
	// flag all of them.
	Ours map[uint64]treecopy.Flags
	// Kept are the files with flags of their own, by path, if Ours is nil.
	Kept map[string]treecopy.Flags
}

// ReadFlagMark returns nil if there is none.
func ReadFlagMark(path string) (*FlagMark, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read which files were immutable: %w", err)
	}
	m := &FlagMark{Kept: map[string]treecopy.Flags{}}
	for line := range strings.SplitSeq(string(data), "\x00") {
		had := treecopy.NoFlags
		inode, ours := strings.CutPrefix(line, "=")
		name, appendOnly := strings.CutPrefix(inode, "+")
		if appendOnly {
			had = treecopy.AppendOnly
		}
		switch {
		case ours:
			n, err := strconv.ParseUint(name, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("cannot read which files were immutable: %s: %q is not the number of an inode", path, name)
			}
			if m.Ours == nil {
				m.Ours = map[uint64]treecopy.Flags{}
			}
			m.Ours[n] = had
		case appendOnly:
			m.Kept[name] = had
		case name != "":
			m.Kept[name] = treecopy.Immutable
		}
	}
	return m, nil
}

// Write replaces the file, by all of it or nothing. Whether it is durable when
// the flags are is a question for a file system's journal, but for a mark with
// Kept, which is waited for: an empty one would take flags away that are not ours.
func (m *FlagMark) Write(path string) error {
	var lines []string
	for n, had := range m.Ours {
		lines = append(lines, "="+plus(had)+strconv.FormatUint(n, 10)+"\x00")
	}
	write := osutil.WriteFile
	if m.Ours == nil {
		for name, had := range m.Kept {
			lines = append(lines, plus(had)+name+"\x00")
			write = osutil.WriteFileSync
		}
	}
	slices.Sort(lines)
	if err := write(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		return fmt.Errorf("cannot note which files were immutable: %w", err)
	}
	return nil
}

func plus(had treecopy.Flags) string {
	if had == treecopy.AppendOnly {
		return "+"
	}
	return ""
}

// Before tells which flags a file had before any seal.
func (m *FlagMark) Before(e *treecopy.Entry) treecopy.Flags {
	switch had, ours := m.Ours[e.Stat.Ino]; {
	case ours:
		return had
	case m.Ours == nil:
		return m.Kept["/"+e.Path()]
	case e.Immutable():
		return treecopy.Immutable
	case e.IsAppendOnly():
		return treecopy.AppendOnly
	}
	return treecopy.NoFlags
}
