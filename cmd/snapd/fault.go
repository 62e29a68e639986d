// SPDX-License-Identifier: Apache-2.0

//go:build faults

package main

import (
	"os"
	"strings"
	"syscall"
)

// faultHook kills the daemon, as SIGKILL does, at the point that is written in the
// file that SNAPD_FAULT names after "@", once: the file is removed first. The file
// that SNAPD_FAULT_TRACE names gets a line "snapd at POINT." at each point.
func faultHook() func(point string) {
	file, kills := strings.CutPrefix(os.Getenv("SNAPD_FAULT"), "@")
	trace := os.Getenv("SNAPD_FAULT_TRACE")
	if !kills && trace == "" {
		return nil
	}
	return func(point string) {
		if trace != "" {
			tell(trace, point)
		}
		want, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(want)) != point {
			return
		}
		if os.Remove(file) == nil {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
}

// tell opens the file anew each time, which may be a console.
func tell(file, point string) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOCTTY, 0o600)
	if err != nil {
		return
	}
	f.WriteString("snapd at " + point + ".\n")
	f.Close()
}
