// SPDX-License-Identifier: Apache-2.0

package treecopy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

func benchTree(b *testing.B, files, size int) *fixture {
	f := believed(b)
	for i := range files {
		f.write(fmt.Sprintf("d%d/f%d", i%8, i), strings.Repeat("x", size))
	}
	return f
}

func benchDifferences(b *testing.B, files, size int, settle time.Duration) {
	f := benchTree(b, files, size)
	f.c.settle = settle
	f.age()
	f.first()
	for b.Loop() {
		f.differences()
	}
	b.SetBytes(int64(files * size))
}

// 64 files, 1 MiB in all, every one written since the first pass.
func BenchmarkDifferences1MiBChanged(b *testing.B) { benchDifferences(b, 64, 16<<10, time.Hour) }

// The same after a restart of the daemon: nothing is known of the first pass.
func BenchmarkDifferences1MiBAlone(b *testing.B) {
	f := benchTree(b, 64, 16<<10)
	for b.Loop() {
		f.c.seen = nil
		f.differences()
	}
}

func BenchmarkDifferences1MiBUnchanged(b *testing.B) { benchDifferences(b, 64, 16<<10, testSettle) }

func BenchmarkDifferences100MiBUnchanged(b *testing.B) { benchDifferences(b, 1600, 64<<10, testSettle) }

// The first pass, without the sync that ends First.
func BenchmarkFirst100MiB(b *testing.B) {
	f := benchTree(b, 1600, 64<<10)
	f.age()
	for b.Loop() {
		if err := f.c.prepare(context.Background(), 0); err != nil {
			b.Fatal(err)
		}
		if _, err := f.c.pass(context.Background(), true, false); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(100 << 20)
}
