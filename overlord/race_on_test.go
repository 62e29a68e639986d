// SPDX-License-Identifier: Apache-2.0

//go:build race

package overlord_test

// stride is the distance between the points where mishaps are tried: the race
// detector makes each several times as slow, and needs only a sample.
const stride = 36
