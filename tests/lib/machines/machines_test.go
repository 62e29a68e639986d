// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"7": 7, "3K": 3 << 10, "256M": 256 << 20, "2G": 2 << 30} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%s is %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "G", "-1M", "0", "1T", "many"} {
		if _, err := ParseSize(in); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}

func TestParseNamed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--x", "1", "dev", "cmd", "--x", "2"}, {"dev", "--x", "1", "cmd", "--x", "2"}} {
		f := flag.NewFlagSet("exec", flag.ContinueOnError)
		x := f.String("x", "", "")
		name, rest, err := ParseNamed("device", f, args)
		if err != nil || name != "dev" || *x != "1" || strings.Join(rest, " ") != "cmd --x 2" {
			t.Errorf("%q: %q %q x=%q %v", args, name, rest, *x, err)
		}
	}
	if _, _, err := ParseNamed("device", flag.NewFlagSet("stop", flag.ContinueOnError), nil); err == nil {
		t.Error("no name is accepted")
	}
}

func TestLockKeepsOthersOut(t *testing.T) {
	t.Parallel()
	d := Dir{Path: t.TempDir(), Kind: "device"}
	unlock, err := d.Lock(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.Lock(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second lock: %v", err)
	}
	// A stop removes the file before it unlocks: who waited must not hold the removed one.
	got := make(chan func(), 1)
	go func() {
		if u, err := d.Lock(context.Background(), "a"); err == nil {
			got <- u
		}
		close(got)
	}()
	os.Remove(d.Of("a.lock"))
	unlock()
	second, ok := <-got
	if !ok {
		t.Fatal("the lock cannot be had after it was released")
	}
	if _, err := os.Stat(d.Of("a.lock")); err != nil {
		t.Errorf("the lock that is held has no file: %v", err)
	}
	second()
}
