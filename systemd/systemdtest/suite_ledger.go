// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"endured/systemd"
)

func testLedger(s *suite) {
	a, bad := s.write(runUnits, "a.service", sleeper()), s.write(runUnits, "bad.service", broken())
	gone := s.unit("nowhere.service")
	var l systemd.Ledger
	ctx := systemd.WithLedger(s.ctx, &l)
	began := time.Now()
	check := func(err error, fails bool) {
		s.Helper()
		if (err != nil) != fails {
			s.Fatalf("err %v, fails %v", err, fails)
		}
	}
	check(s.M.Run(ctx, "start", a, "replace"), false)
	check(s.M.Freeze(ctx, a), false)
	check(s.M.Thaw(ctx, a), false)
	check(s.M.Kill(ctx, a, "all", syscall.SIGCONT), false)
	check(s.M.Run(ctx, "start", bad, "replace"), true)
	_, err := s.M.Restart(ctx, gone, "replace")
	check(err, true)
	check(s.M.Reload(ctx), false)
	j, err := s.M.Stop(ctx, a, "replace")
	check(err, false)
	if _, err := j.Wait(s.ctx); err != nil {
		s.Fatal(err)
	}
	s.reload() // of another context

	deeds, leftOut := l.Deeds()
	var got []string
	for _, d := range deeds {
		got = append(got, fmt.Sprint(d.What, " ", d.Unit, " ", d.Signal, " ", d.To, " ", d.Result))
		if d.At.Before(began) || time.Since(d.At) < 0 || (d.MS > 0) != (d.What != "signal" && d.Result != "refused") && d.Result != "refused" {
			s.Errorf("%+v", d)
		}
	}
	want := []string{
		"start " + a + "   done", "freeze " + a + "   done", "thaw " + a + "   done", "signal " + a + " SIGCONT all done",
		"start " + bad + "   failed", "restart " + gone + "   refused", "daemon-reload    done", "stop " + a + "   done",
	}
	if !slices.Equal(got, want) || leftOut != 0 {
		s.Fatalf("%q, %d left out, want %q", got, leftOut, want)
	}
}

// testLedgerBound asks for more than is kept.
func testLedgerBound(s *suite) {
	a := s.write(runUnits, "a.service", sleeper())
	s.run("start", a)
	var l systemd.Ledger
	ctx := systemd.WithLedger(context.WithoutCancel(s.ctx), &l)
	for range 130 {
		if err := s.M.Kill(ctx, a, "main", syscall.SIGCONT); err != nil {
			s.Fatal(err)
		}
	}
	s.isErr(s.M.Kill(ctx, s.unit("nowhere.service"), "main", syscall.SIGTERM), systemd.ErrNoSuchUnit)
	deeds, leftOut := l.Deeds()
	if len(deeds) != 101 || leftOut != 30 || deeds[100].Result != "refused" {
		s.Fatalf("%d kept, %d left out: %+v", len(deeds), leftOut, deeds[len(deeds)-1])
	}
}
