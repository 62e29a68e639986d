// SPDX-License-Identifier: Apache-2.0

//go:build faults

package main

import (
	"os"
	"strings"
	"syscall"
)

// faultHook kills the daemon, as SIGKILL does, at the point that is written in the
// file that SNAPD_FAULT names after "@", once: the file is removed first.
func faultHook() func(point string) {
	file, ok := strings.CutPrefix(os.Getenv("SNAPD_FAULT"), "@")
	if !ok {
		return nil
	}
	return func(point string) {
		want, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(want)) != point {
			return
		}
		if os.Remove(file) == nil {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
}
