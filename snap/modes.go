// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"fmt"
	"slices"
	"strings"
)

// RefreshMode is the word of refresh-mode: "", "endure", "restart",
// "ignore-running" (apps only) or a signal, "sigterm" to "sigusr2", with or
// without "-all".
type RefreshMode string

// StopMode is the word of stop-mode: "" or a signal as in RefreshMode.
type StopMode string

// signalWords maps the words that both modes accept to systemd's names.
var signalWords = map[string]string{
	"sigterm": "SIGTERM", "sigint": "SIGINT", "sighup": "SIGHUP",
	"sigusr1": "SIGUSR1", "sigusr2": "SIGUSR2",
}

// Signal returns the signal's name as systemd spells it, "" if the mode names none.
func (m RefreshMode) Signal() string { return signalWords[strings.TrimSuffix(string(m), "-all")] }

// All tells whether the signal is for every process of the service.
func (m RefreshMode) All() bool { return strings.HasSuffix(string(m), "-all") }

// Signal returns the signal's name as systemd spells it, "" if the mode is unset.
func (m StopMode) Signal() string { return signalWords[strings.TrimSuffix(string(m), "-all")] }

// All tells whether a stop signals every process: so it is unless the mode
// names a signal without "-all".
func (m StopMode) All() bool { return m == "" || strings.HasSuffix(string(m), "-all") }

// signalModes are the signal words with and without -all, in the order in
// which messages name them.
func signalModes() []string {
	var out []string
	for _, s := range []string{"sigterm", "sigint", "sighup", "sigusr1", "sigusr2"} {
		out = append(out, s, s+"-all")
	}
	return out
}

// stopModes are the words that stop-mode may have.
func stopModes() []string { return signalModes() }

// refreshModes are the words that refresh-mode may have in services and apps.
func refreshModes() []string { return append(allowedRefreshModes(true), "ignore-running") }

func allowedRefreshModes(service bool) []string {
	if !service {
		return []string{"ignore-running"}
	}
	return append([]string{"endure", "restart"}, signalModes()...)
}

// CheckRefreshMode tells whether a word is a refresh-mode that a service may
// have; the error lists those that are.
func CheckRefreshMode(word string) error {
	allowed := allowedRefreshModes(true)
	if !slices.Contains(allowed, word) {
		return fmt.Errorf("refresh-mode %q is not one of %s", word, strings.Join(allowed, ", "))
	}
	return nil
}
