// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"endured/systemd"
)

func TestUnitBytes(t *testing.T) {
	t.Parallel()
	got, err := systemd.Unit{
		{Name: "Unit", Options: []systemd.Option{{Name: "Description", Value: " a b "}, {Name: "X-Revision", Value: "12"}}},
		{Name: "X-Snap"},
		{Name: "Service", Options: []systemd.Option{{Name: "ExecStart", Value: `/bin/a "b\\"`}, {Name: "Environment", Value: ""}}},
	}.Bytes()
	want := "[Unit]\nDescription=a b\nX-Revision=12\n\n[X-Snap]\n\n[Service]\nExecStart=/bin/a \"b\\\\\"\nEnvironment=\n"
	if err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

func TestUnitBytesRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ section, key, value, err string }{
		{"Service", "Environment", "A=b\nExecStart=/bin/evil", "Environment= in section [Service]: holds the control character U+000A"},
		{"Service", "Environment", "a\rb", "U+000D"},
		{"Service", "Environment", "a\x00b", "U+0000"},
		{"Service", "Environment", "a\u0085b", "U+0085"},
		{"Service", "Environment", "a\x7f", "U+007F"},
		{"Service", "Environment", "a\xff", "not valid UTF-8"},
		{"Service", "Environment", "a\\", "ends in a backslash"},
		{"Service", "Environment", `a\\\ `, "ends in a backslash"},
		{"Service", "Environment", strings.Repeat("a", 1<<20), "longer than 1 MiB"},
		{"Service", "A=b\nC", "d", "bad key"},
		{"Service", "", "d", "bad key"},
		{"Service]\n[Unit", "A", "d", "bad section"},
		{"", "A", "d", "bad section"},
	} {
		_, err := systemd.Unit{{Name: c.section, Options: []systemd.Option{{Name: c.key, Value: c.value}}}}.Bytes()
		if err == nil || !strings.Contains(err.Error(), c.err) || !strings.HasPrefix(err.Error(), "cannot write unit file: ") {
			t.Errorf("[%s] %s=%.20q: %v, want %q", c.section, c.key, c.value, err, c.err)
		}
	}
}

func TestEscapePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/snap/foo/x1":       "snap-foo-x1",
		"/snap/foo-bar/12":   `snap-foo\x2dbar-12`,
		"//snap//foo/../a/":  "snap-a",
		"/":                  "-",
		"/.hidden/a.b":       `\x2ehidden-a.b`,
		"/var/ü":             `var-\xc3\xbc`,
		"/a b":               `a\x20b`,
		`/a\x41`:             `a\x5cx41`,
		"/snap/foo_instance": "snap-foo_instance",
	} {
		if got := systemd.EscapePath(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if got := systemd.MountUnit("/snap/foo-bar/x1"); got != `snap-foo\x2dbar-x1.mount` {
		t.Error(got)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"/bin/a", "b", "--c=d"}, "/bin/a b --c=d"},
		{[]string{"/bin/a", "b c", ""}, `/bin/a "b c" ""`},
		{[]string{"/bin/a", "$HOME", "${X}", "100%"}, `/bin/a $$HOME "$${X}" 100%%`},
		{[]string{"/bin/a", `"`, `\n`, "'", ";", "a\tb"}, `/bin/a "\"" "\\n" "'" ";" "a\tb"`},
		{[]string{"/bin/a", "ü"}, `/bin/a "ü"`},
		{[]string{"/bin/100%"}, "/bin/100%%"},
	} {
		if got, err := systemd.QuoteExec(c.args); err != nil || got != c.want {
			t.Errorf("%q: %s, %v; want %s", c.args, got, err, c.want)
		}
	}
	for _, args := range [][]string{nil, {""}, {"bin"}, {"+/bin/sh"}, {"-/bin/sh"}, {"@/bin/sh", "x"}, {"/bin/$x"}, {"/bin/a", "b\nc"}, {"/bin/a", "\x00"}, {"/bin/a", "\xff"}} {
		if got, err := systemd.QuoteExec(args); err == nil {
			t.Errorf("%q: %s", args, got)
		}
	}
	if got, err := systemd.QuoteEnv("A", `x "$y" 5%`); err != nil || got != `"A=x \"$y\" 5%%"` {
		t.Errorf("%s, %v", got, err)
	}
	for _, name := range []string{"", "A B", "A=B", "1A", `"`, "A\n"} {
		if got, err := systemd.QuoteEnv(name, "x"); err == nil {
			t.Errorf("%q: %s", name, got)
		}
	}
	if _, err := systemd.QuoteEnv("A", "x\nExecStart=/evil"); err == nil {
		t.Error("a newline passed")
	}
}

// parseWords reads words as systemd's extract_first_word does with
// EXTRACT_UNQUOTE|EXTRACT_CUNESCAPE, then expands specifiers and, as of a
// command line, variables that are all unset.
func parseWords(line string, variables bool) ([]string, error) {
	var words []string
	for i := 0; ; {
		for i < len(line) && strings.IndexByte(" \t", line[i]) >= 0 {
			i++
		}
		if i == len(line) {
			return words, nil
		}
		var w strings.Builder
		quote := byte(0)
		for ; i < len(line) && (quote != 0 || strings.IndexByte(" \t", line[i]) < 0); i++ {
			switch c := line[i]; {
			case c == '\\':
				n, s, err := unescapeC(line[i+1:])
				if err != nil {
					return nil, err
				}
				w.WriteString(s)
				i += n
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote != 0 && c == quote:
				quote = 0
			default:
				w.WriteByte(c)
			}
		}
		if quote != 0 {
			return nil, fmt.Errorf("unbalanced quote in %q", line)
		}
		word, err := undouble(w.String(), '%')
		if err == nil && variables && len(words) > 0 {
			word, err = undouble(word, '$')
		}
		if err != nil {
			return nil, err
		}
		words = append(words, word)
	}
}

func unescapeC(s string) (int, string, error) {
	if s == "" {
		return 0, "", fmt.Errorf("escape at the end")
	}
	if i := strings.IndexByte(`abfnrtv\"'`, s[0]); i >= 0 {
		return 1, "\a\b\f\n\r\t\v\\\"'"[i : i+1], nil
	}
	if s[0] == 's' {
		return 1, " ", nil
	}
	if s[0] == 'x' && len(s) >= 3 {
		c, err := strconv.ParseUint(s[1:3], 16, 8)
		return 3, string([]byte{byte(c)}), err
	}
	return 0, "", fmt.Errorf("unknown escape %q", s[:1])
}

// undouble turns each doubled mark into one; a single one would be expanded.
func undouble(s string, mark byte) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == mark {
			if i+1 >= len(s) || s[i+1] != mark {
				return "", fmt.Errorf("%c is expanded in %q", mark, s)
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), nil
}

func FuzzQuote(f *testing.F) {
	f.Add("/bin/a", "b", "c")
	f.Add(`/b"in/a\`, `\x41 'q' "r"`, "$X ${Y} $$ %n %% \t ; |")
	f.Add("/ü", "", "a\nb")
	f.Fuzz(func(t *testing.T, cmd, a, b string) {
		args := []string{"/" + cmd, a, b}
		if line, err := systemd.QuoteExec(args); err == nil {
			got, err := parseWords(line, true)
			if err != nil || !slices.Equal(got, args) {
				t.Fatalf("%q became %s, read as %q, %v", args, line, got, err)
			}
			if _, err := (systemd.Unit{{Name: "Service", Options: []systemd.Option{{Name: "ExecStart", Value: line}}}}).Bytes(); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		} else if utf8.ValidString(cmd+a+b) && !strings.ContainsFunc(cmd+a+b, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '$' }) {
			t.Fatalf("%q refused: %v", args, err)
		}
		if line, err := systemd.QuoteEnv("A", a); err == nil {
			if got, err := parseWords(line, false); err != nil || len(got) != 1 || got[0] != "A="+a {
				t.Fatalf("%q became %s, read as %q, %v", a, line, got, err)
			}
		}
		if clean := "/" + strings.Trim(a, "/"); !strings.Contains(clean, "//") && !strings.Contains(clean, "/.") {
			if got := systemd.UnescapePath(systemd.EscapePath(clean)); got != clean {
				t.Fatalf("%q became %q", clean, got)
			}
		}
	})
}
