// SPDX-License-Identifier: Apache-2.0

package daemon

import "regexp"

var (
	pidsInText  = regexp.MustCompile(`\b([Pp]ids?|[Pp]rocess(?:es)?) \d+(?:, \d+)*`)
	pathsInText = regexp.MustCompile(`(^|[\s"'(=])/[^\s"',;)]+`)
)

// text returns what a caller may read of a message: process ids and paths are
// for uid 0 only.
func (c *call) text(s string) string {
	if c.root() {
		return s
	}
	return pathsInText.ReplaceAllString(pidsInText.ReplaceAllString(s, "$1 …"), "$1…")
}
