// SPDX-License-Identifier: Apache-2.0

package confinement

import (
	"slices"
	"strings"
)

// runPaths lists what rules of AppArmor's language allow of /run, as the files
// and directories right below it, or below /run/systemd: a service gets to see
// what it may use. A rule for everything gives "/run".
func runPaths(rules []string) []string {
	var out []string
	for _, r := range rules {
		words := strings.Fields(r)
		for len(words) > 0 && (words[0] == "owner" || words[0] == "audit" || words[0] == "allow") {
			words = words[1:]
		}
		if len(words) < 2 || words[0] == "deny" || !strings.HasPrefix(words[0], "/") {
			continue
		}
		for _, p := range alternatives(words[0]) {
			if shown := below(p); shown != "" {
				out = append(out, shown)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// below is the part of /run that a pattern lies in, "" for none.
func below(pattern string) string {
	pattern = strings.ReplaceAll(pattern, "//", "/")
	pattern = strings.TrimPrefix(pattern, "/var")
	if pattern == "/**" || strings.HasPrefix(pattern, "/*") {
		return "/run"
	}
	rest, ok := strings.CutPrefix(pattern, "/run/")
	if !ok {
		return ""
	}
	at := "/run"
	for _, part := range strings.Split(rest, "/") {
		if part == "" || strings.ContainsAny(part, "*?[") {
			break
		}
		at += "/" + part
		if at != "/run/systemd" && at != "/run/user" {
			break
		}
	}
	if at == "/run/systemd" { // its sockets are PID 1's own
		return ""
	}
	return at
}

// alternatives writes a pattern once for each choice in its braces.
func alternatives(pattern string) []string {
	open := strings.IndexByte(pattern, '{')
	if open < 0 {
		return []string{pattern}
	}
	depth, from := 0, open+1
	var choices []string
	for n := open; n < len(pattern); n++ {
		switch c := pattern[n]; {
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
		if depth == 1 && pattern[n] == ',' || depth == 0 {
			choices = append(choices, pattern[from:n])
			from = n + 1
		}
		if depth == 0 {
			break
		}
	}
	var out []string
	for _, c := range choices {
		out = append(out, alternatives(pattern[:open]+c+pattern[from:])...)
	}
	return out
}
