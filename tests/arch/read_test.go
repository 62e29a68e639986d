// SPDX-License-Identifier: Apache-2.0

package arch

import "os"

func readFile(p string) (string, error) {
	b, err := os.ReadFile(p)
	return string(b), err
}
