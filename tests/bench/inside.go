// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"endured/client"
	"endured/systemd"
)

const (
	project  = "/srv/endured"
	work     = "/tmp/bench"
	snapName = "plain"
	unit     = "snap.plain.svc.service"
	stayUnit = "snap.plain.fixture.service"
	logFile  = "/var/snap/plain/common/log/svc.log"
	dropIn   = "/etc/systemd/system/" + unit + ".d/bench.conf"
	dataDir  = "/var/snap/plain/current"
	files    = 64
)

// column is one way to be measured.
type column struct {
	title   string
	mib     int64
	writing bool // the service appends to its data all the time
	others  int  // other snaps
	files   int
	seals   bool // a second service stays, and its data is sealed
	held    int  // files that it has open for writing
	sigterm bool // refresh-mode is sigterm
	workers int  // processes beside main, which outlive it
}

// kind tells apart the snaps that the columns need.
func (c column) kind() string {
	switch {
	case c.sigterm:
		return fmt.Sprintf("sigterm-%d", c.workers)
	case c.seals:
		return fmt.Sprintf("seals-%d", c.held)
	}
	return "restart"
}

// numbers reads a list of numbers.
func numbers(list, what string) ([]int, error) {
	var out []int
	for w := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(w)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("cannot use %q as a number of %s", w, what)
		}
		out = append(out, n)
	}
	return out, nil
}

func columns(o *options) ([]column, error) {
	var out []column
	if o.has("refresh") {
		for w := range strings.SplitSeq(o.data, ",") {
			n, err := strconv.ParseInt(strings.TrimSuffix(w, "w"), 10, 64)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("cannot use %q as MiB of data", w)
			}
			c := column{title: fmt.Sprintf("%d MiB", n), mib: n, files: files, writing: strings.HasSuffix(w, "w")}
			if c.writing {
				c.title += ", written to"
			}
			out = append(out, c)
		}
	}
	if o.has("refresh") && o.workers != "none" {
		workers, err := numbers(o.workers, "workers")
		if err != nil {
			return nil, err
		}
		for _, n := range workers {
			out = append(out, column{title: fmt.Sprintf("sigterm, %d workers", n), mib: 1, files: files, sigterm: true, workers: n})
		}
	}
	if o.has("seal") {
		sealed, err := numbers(o.sealed, "files")
		if err != nil {
			return nil, err
		}
		for _, n := range sealed {
			held := min(n/10, 500)
			out = append(out, column{title: fmt.Sprintf("%d files, %d held", n, held), mib: 1, files: n, seals: true, held: held})
		}
	}
	others, err := numbers(o.others, "other snaps")
	for _, n := range others {
		if n > 0 && o.has("refresh") {
			out = append(out, column{mib: 1, files: files, others: n})
		}
	}
	return out, err
}

// bench is the whole run.
type bench struct {
	o       *options
	client  *client.Client
	systemd *systemd.Manager
	others  int
	until   time.Time // when installing others ends, ready or not
	results []*result
}

func inside(ctx context.Context, o *options) error {
	cols, err := columns(o)
	if err != nil {
		return err
	}
	if o.has(vmPart) {
		cols, o.refreshes, o.traced = []column{vmColumn()}, 3, 0
	}
	began := time.Now()
	if err := output(ctx, "systemctl", "enable", "--quiet", "--now", "snapd.socket", "snapd.service"); err != nil {
		return err
	}
	b := &bench{o: o, client: client.New(client.Config{})}
	if b.systemd, err = systemd.Dial(ctx, systemd.Options{}); err != nil {
		return err
	}
	defer b.systemd.Close()
	if err := pack(ctx, append([]column{{}}, cols...)); err != nil {
		return err
	}
	for _, c := range cols {
		if err := b.installOthers(ctx, c.others); err != nil {
			return err
		}
		r, err := b.measure(ctx, c)
		if err != nil {
			return err
		}
		b.results = append(b.results, r)
	}
	if o.has("starts") {
		if err := b.starts(ctx); err != nil {
			return err
		}
	}
	if o.has("lists") {
		if err := b.listMany(ctx); err != nil {
			return err
		}
	}
	if o.has("profiles") {
		if err := b.compile(ctx); err != nil {
			return err
		}
	}
	switch {
	case o.has(vmPart):
		b.profiles()
	case len(b.results) > 0:
		b.report()
	}
	fmt.Printf("\nAll of this took %.0f s.\n", time.Since(began).Seconds())
	return nil
}

func output(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run %s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// snapFile is the one to install as the n-th. Two take turns: a file that is
// current already would be no refresh.
func (c column) snapFile(n int) string { return fmt.Sprintf("%s/%s-%d.snap", work, c.kind(), n%2) }

// pack makes the snaps of all columns, with a service that leaves its data alone.
func pack(ctx context.Context, cols []column) error {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	made := map[string]bool{}
	for _, c := range cols {
		if made[c.kind()] {
			continue
		}
		made[c.kind()] = true
		command := "svc.command=bin/fixture --name svc --serve unix:$SNAP_COMMON/svc.sock"
		edits := []string{command}
		if c.sigterm {
			edits = []string{command + fmt.Sprintf(" --workers %d --worker-heartbeat 0", c.workers), "svc.refresh-mode=sigterm"}
		}
		if c.seals {
			// what is an app in the sample becomes a service
			edits = append(edits, fmt.Sprintf("fixture.command=bin/fixture --name stay --hold-open %d", c.held),
				"fixture.daemon=simple", "fixture.refresh-mode=endure")
		}
		err := parallel(2, func(i int) error {
			return output(ctx, project+"/tests/lib/pack-snap.sh", append([]string{snapName, strconv.Itoa(i), c.snapFile(i)}, edits...)...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// parallel runs do(0) to do(n-1), two at a time, until one fails.
func parallel(n int, do func(i int) error) error {
	next := make(chan int)
	failed := make(chan error, 2)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < n && err == nil; i++ {
		select {
		case next <- i:
		case err = <-failed:
		}
	}
	close(next)
	wg.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// install installs a file and waits for the change.
func (b *bench) install(ctx context.Context, path string) (*client.Change, error) {
	id, err := b.client.InstallFile(ctx, path, client.InstallOptions{Dangerous: true}, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot install %s: %w", path, err)
	}
	ch, err := b.client.WaitChange(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	if err := ch.Failed(); err != nil {
		return nil, fmt.Errorf("cannot install %s: %w", path, err)
	}
	return ch, nil
}

// fresh begins a column: no old revisions, a daemon that did nothing yet.
func (b *bench) fresh(ctx context.Context, c column, r *result) (pid int, err error) {
	if _, err := os.Stat("/snap/" + snapName + "/current"); err == nil {
		id, err := b.client.Remove(ctx, []string{snapName}, client.RemoveOptions{Purge: true})
		if err != nil {
			return 0, err
		}
		ch, err := b.client.WaitChange(ctx, id, nil)
		if err != nil {
			return 0, err
		}
		if err := ch.Failed(); err != nil {
			return 0, err
		}
	}
	if err := os.RemoveAll(filepath.Dir(dropIn)); err != nil {
		return 0, err
	}
	if c.writing {
		if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
			return 0, err
		}
		if err := os.WriteFile(dropIn, []byte("[Service]\nEnvironment=\"FIXTURE_ARGS=--append-data records\"\n"), 0o644); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	if err := output(ctx, "systemctl", "restart", "snapd.service"); err != nil {
		return 0, err
	}
	r.daemonStart = milliseconds(time.Since(began))
	if _, err := b.install(ctx, c.snapFile(0)); err != nil {
		return 0, err
	}
	if err := fill(dataDir, c.files, c.mib<<20); err != nil {
		return 0, err
	}
	if err := b.baselines(ctx, c, r); err != nil {
		return 0, err
	}
	if _, err := b.install(ctx, c.snapFile(1)); err != nil { // warms the caches
		return 0, err
	}
	if err := renew(ctx, c); err != nil {
		return 0, err
	}
	return mainPID("snapd.service")
}

// baselines measures what a refresh is made of, without a refresh.
func (b *bench) baselines(ctx context.Context, c column, r *result) error {
	if err := awaitReady(c); err != nil {
		return err
	}
	for range max(3, b.o.refreshes/2) {
		began := time.Now()
		if err := b.systemd.Reload(ctx); err != nil {
			return err
		}
		r.bareReload = append(r.bareReload, milliseconds(time.Since(began)))
	}
	before, err := absences(logFile)
	if err != nil {
		return err
	}
	for i := range max(3, b.o.refreshes/2) {
		if err := awaitReady(c); err != nil {
			return err
		}
		if err := b.systemd.Run(ctx, "restart", unit, "replace"); err != nil {
			return err
		}
		all, err := awaitAbsence(logFile, len(before)+i+1)
		if err != nil {
			return err
		}
		if err := b.systemd.ResetFailed(ctx, unit); err != nil { // its start limit
			return err
		}
		last := all[len(all)-1]
		r.bareRestart = append(r.bareRestart, milliseconds(last.to-last.from))
	}
	for range 3 {
		began := time.Now()
		if err := output(ctx, "sh", "-c", "cp -a --reflink=auto "+dataDir+"/. /var/snap/copy && sync -f /var/snap/copy"); err != nil {
			return err
		}
		r.bareCopy = append(r.bareCopy, milliseconds(time.Since(began)))
		if err := os.RemoveAll("/var/snap/copy"); err != nil {
			return err
		}
	}
	return nil
}
