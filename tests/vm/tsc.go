// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package main

import "time"

// timestamp reads the processor's time stamp counter, which a guest without KVM sees as it is.
func timestamp() uint64

// timestampRate measures the counter's rate in kHz.
func timestampRate() int {
	best, rate := time.Hour, 0
	// The shortest of a few: in a longer one this process was made to wait, perhaps between the two readings.
	for range 5 {
		start, from := time.Now(), timestamp()
		time.Sleep(10 * time.Millisecond)
		ticks, took := timestamp()-from, time.Since(start)
		if took < best {
			best, rate = took, int(float64(ticks)/took.Seconds()/1000)
		}
	}
	return rate
}
