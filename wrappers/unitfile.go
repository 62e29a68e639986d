// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unit is a unit file: sections in order.
type unit []section

type section struct {
	name    string
	options []option
}

// option is one assignment. The value is what the directive's own syntax
// wants, quoted already where that syntax has quoting.
type option struct{ name, value string }

// marshal writes the unit. It is the one place that text passes on its way
// into a unit file, and it refuses what could end a line or a file.
func (u unit) marshal() ([]byte, error) {
	var b bytes.Buffer
	for n, s := range u {
		if n > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("[" + s.name + "]\n")
		for _, o := range s.options {
			if err := checkText(o.value); err != nil {
				return nil, fmt.Errorf("%s=: %w", o.name, err)
			}
			if strings.HasSuffix(o.value, `\`) {
				return nil, fmt.Errorf("%s=: value ends in a backslash", o.name)
			}
			b.WriteString(o.name + "=" + o.value + "\n")
		}
	}
	return b.Bytes(), nil
}

// checkText refuses control characters and what is not UTF-8.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("value %q is not UTF-8", s)
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return fmt.Errorf("value %q holds the control character %U", s, r)
		}
	}
	return nil
}

// escapePath turns an absolute path into the middle of a unit name, as
// systemd-escape --path does.
func escapePath(path string) string {
	path = strings.Trim(path, "/")
	if path == "" {
		return "-"
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0,
			!strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:_.", rune(c)):
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// quoteValue makes s one word of a directive that splits its value, such as
// Environment=, ReadWritePaths= or BindPaths=.
func quoteValue(s string) string { return quoteWord(strings.ReplaceAll(escapeQuoted(s), "%", "%%")) }

// quoteExec makes s one word of an Exec line, expanded by nobody.
func quoteExec(s string) string { return quoteWord(escapeExec(s)) }

// escapeExec is the inside of the quotes of quoteExec.
func escapeExec(s string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(escapeQuoted(s))
}

func escapeQuoted(s string) string { return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) }

// quoteWord puts quotes around text that is escaped for it, where needed.
func quoteWord(s string) string {
	const plain = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-./:=,+@%${}"
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(plain, r) }) < 0 {
		return s
	}
	return `"` + s + `"`
}
