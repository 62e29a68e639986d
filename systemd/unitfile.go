// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Unit is a unit file or a drop-in as data, in the order of the file.
type Unit []Section

// Section is one section; Name goes without brackets.
type Section struct {
	Name    string
	Options []Option
}

// Option is one line. Value is as it stands in the file: what it holds must
// have been quoted with the function for its place.
type Option struct{ Name, Value string }

// maxLine is the longest line that systemd reads, in bytes.
const maxLine = 1 << 20

// Bytes is the file. It is the one place where text becomes a unit file, and
// refuses what would be more, or other, than the one value: control
// characters, invalid UTF-8, and a backslash that would join the next line.
// Blanks around a value go, as systemd would drop them.
func (u Unit) Bytes() ([]byte, error) {
	var b bytes.Buffer
	for i, s := range u {
		if !isWord(s.Name, "- ") {
			return nil, fmt.Errorf("cannot write unit file: bad section name %q", s.Name)
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "[%s]\n", s.Name)
		for _, o := range s.Options {
			if !isWord(o.Name, "-") {
				return nil, fmt.Errorf("cannot write unit file: bad key %q in section [%s]", o.Name, s.Name)
			}
			v := strings.Trim(o.Value, " ")
			if err := checkValue(v); err != nil {
				return nil, fmt.Errorf("cannot write unit file: %s= in section [%s]: %w", o.Name, s.Name, err)
			}
			if len(o.Name)+len(v) >= maxLine-2 {
				return nil, fmt.Errorf("cannot write unit file: %s= in section [%s]: longer than 1 MiB", o.Name, s.Name)
			}
			fmt.Fprintf(&b, "%s=%s\n", o.Name, v)
		}
	}
	return b.Bytes(), nil
}

func isWord(s, also string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(also, r) {
			return false
		}
	}
	return s != "" && strings.TrimSpace(s) == s
}

func checkValue(v string) error {
	if err := checkText(v); err != nil {
		return err
	}
	if n := len(v) - len(strings.TrimRight(v, `\`)); n%2 == 1 {
		return errors.New("ends in a backslash")
	}
	return nil
}

// checkText refuses what no text in a unit file may hold.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("not valid UTF-8")
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\ufeff' {
			return fmt.Errorf("holds the control character %U", r)
		}
	}
	return nil
}

// EscapePath is the part of a unit's name that stands for a path, as made by
// "systemd-escape --path": /snap/foo/x1 is snap-foo-x1.
func EscapePath(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		return "-"
	}
	return EscapeName(p)
}

// UnescapePath undoes EscapePath.
func UnescapePath(s string) string {
	if s == "-" {
		return "/"
	}
	var b strings.Builder
	b.WriteByte('/')
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '-':
			b.WriteByte('/')
		case s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x':
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// EscapeName escapes text for use in a unit's name, as in an instance. It is
// not go-systemd's, which writes bytes below 0x10 with one digit.
func EscapeName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0 || c != ':' && c != '_' && c != '.' && !isWord(s[i:i+1], ""):
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// MountUnit is the name of the mount unit for a mount point.
func MountUnit(where string) string { return EscapePath(where) + ".mount" }

// QuoteValue is plain text for a setting that takes the rest of the line and
// expands specifiers: Description=, What=, Where=, ….
func QuoteValue(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// QuoteWord is one word of a setting that takes a list of words and expands
// specifiers, but not variables: ReadWritePaths=, BindPaths=, ….
func QuoteWord(s string) (string, error) { return quote(s, false) }

// QuoteEnv is one assignment for Environment=.
func QuoteEnv(name, value string) (string, error) {
	if name == "" || strings.ContainsAny(name, "= \t\"'\\") || (name[0] >= '0' && name[0] <= '9') {
		return "", fmt.Errorf("bad environment variable name %q", name)
	}
	q, err := quote(name+"="+value, false)
	if err != nil {
		return "", fmt.Errorf("environment variable %s: %w", name, err)
	}
	return q, nil
}

// QuoteExec is a command line for ExecStart= and the like, that runs args as
// they are: nothing in them is expanded. args[0] is an absolute path: anything
// else could start with one of systemd's prefixes, such as "+".
func QuoteExec(args []string) (string, error) {
	if len(args) == 0 {
		return "", errors.New("empty command")
	}
	if !path.IsAbs(args[0]) {
		return "", fmt.Errorf("command %q is not an absolute path", args[0])
	}
	if strings.Contains(args[0], "$") {
		// systemd does not expand variables there, so "$$" would stay.
		return "", fmt.Errorf("command %q holds a dollar sign", args[0])
	}
	words := make([]string, len(args))
	for i, a := range args {
		q, err := quote(a, true)
		if err != nil {
			return "", fmt.Errorf("command %q: argument %d: %w", args[0], i, err)
		}
		words[i] = q
	}
	return strings.Join(words, " "), nil
}

// quote makes one word that systemd reads back as s. A tab becomes an escape;
// other control characters are refused.
func quote(s string, dollar bool) (string, error) {
	if err := checkText(strings.ReplaceAll(s, "\t", "")); err != nil {
		return "", err
	}
	special := s == ""
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\' || r == '"':
			special = true
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\t':
			special = true
			b.WriteString(`\t`)
		case r == '%':
			b.WriteString("%%")
		case r == '$' && dollar:
			b.WriteString("$$")
		default:
			if !strings.ContainsRune("/._-+,:=@$", r) && !isWord(string(r), "") {
				special = true
			}
			b.WriteRune(r)
		}
	}
	if special {
		return `"` + b.String() + `"`, nil
	}
	return b.String(), nil
}
