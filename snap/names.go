// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxAppName   = 64
	maxIfaceName = 64
	maxVersion   = 32
)

var (
	appNamePattern   = regexp.MustCompile(`^[a-zA-Z0-9](?:-?[a-zA-Z0-9])*$`)
	ifaceNamePattern = regexp.MustCompile(`^[a-z](?:-?[a-z0-9])*$`)
	hookNamePattern  = ifaceNamePattern
	versionPattern   = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9:.+~-]*[a-zA-Z0-9+~])?$`)
	envNamePattern   = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	busNamePattern   = regexp.MustCompile(`^[A-Za-z_-][A-Za-z0-9_-]*(?:\.[A-Za-z_-][A-Za-z0-9_-]*)+$`)
)

// CheckName tells what is wrong with the name of a snap: 2 to 40 lower-case
// letters, digits and single inner dashes, with at least one letter.
func CheckName(name string) error {
	switch {
	case len(name) < 2 || len(name) > 40:
		return fmt.Errorf("%s has %d characters; a snap name has 2 to 40", quote(name), utf8.RuneCountInString(name))
	case !onlySnapNameBytes(name):
		return fmt.Errorf("%s is not a snap name: only a-z, 0-9 and dashes are allowed", quote(name))
	case name[0] == '-' || name[len(name)-1] == '-' || strings.Contains(name, "--"):
		return fmt.Errorf("%s is not a snap name: a dash must stand alone between letters or digits", quote(name))
	case !strings.ContainsAny(name, "abcdefghijklmnopqrstuvwxyz"):
		return fmt.Errorf("%s is not a snap name: it needs a letter", quote(name))
	}
	return nil
}

func onlySnapNameBytes(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// CheckAppName tells what is wrong with the name of an app or a socket.
func CheckAppName(name string) error {
	if len(name) > maxAppName || !appNamePattern.MatchString(name) {
		return fmt.Errorf("%s is not a valid name: at most %d letters, digits and single inner dashes", quote(name), maxAppName)
	}
	return nil
}

func checkIfaceName(name string) error {
	if len(name) > maxIfaceName || !ifaceNamePattern.MatchString(name) {
		return fmt.Errorf("%s is not a valid name: at most %d lower-case letters, digits and single inner dashes, a letter first",
			quote(name), maxIfaceName)
	}
	return nil
}

func checkVersion(v string) error {
	switch {
	case len(v) > maxVersion:
		return fmt.Errorf("%s has %d characters; at most %d are allowed", quote(v), utf8.RuneCountInString(v), maxVersion)
	case !versionPattern.MatchString(v):
		return fmt.Errorf("%s must be of letters, digits and inner :.+~- (the last may be + or ~)", quote(v))
	}
	return nil
}

// controlRune returns the first control character of s that is not in allowed.
func controlRune(s, allowed string) (rune, bool) {
	for _, r := range s {
		if (unicode.IsControl(r) || r == '\u2028' || r == '\u2029') && !strings.ContainsRune(allowed, r) {
			return r, true
		}
	}
	return 0, false
}
