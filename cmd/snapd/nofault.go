// SPDX-License-Identifier: Apache-2.0

//go:build !faults

package main

// faultHook is nothing in a daemon that is not built for crash tests.
func faultHook() func(point string) { return nil }
