// SPDX-License-Identifier: Apache-2.0

//go:build !race

package overlord_test

// stride is the distance between the points where mishaps are tried.
const stride = 4
