// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package main

// timestampRate is 0 where the guest's architecture is not the host's.
func timestampRate() int { return 0 }
