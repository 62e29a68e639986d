// SPDX-License-Identifier: Apache-2.0

package wrappers

// ResolveCurrent is resolveCurrent.
func ResolveCurrent(o Options, path string) (string, error) { return o.resolveCurrent(path) }
