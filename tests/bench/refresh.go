// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"endured/client"
)

// result is what was measured in one column. Times are in ms.
type result struct {
	column
	daemonStart                       float64
	bareReload, bareRestart, bareCopy series
	gap, recorded, change, request    series
	frozen                            series
	steps                             map[string]series
	stepNames                         []string
	tasks                             map[string]series
	taskNames                         []string
	cpu, cpuInit, cpuBus              series
	compiled, loaded                  series
	sealed                            map[string]series // the seal's own steps
	written                           series            // MiB
	memory, idle                      memory

	// per refresh, from the traced ones
	syncs, syncsInGap float64
	synced, calls     map[string]float64
	traced            int
}

// pace is the least time from one refresh to the next. systemd looks at changed
// mounts five times a second and then not before the second is over: refreshes
// that follow each other more closely would wait for that.
const pace = 1200 * time.Millisecond

func (b *bench) measure(ctx context.Context, c column) (*result, error) {
	if c.others > 0 {
		c.others = b.others
		c.title = fmt.Sprintf("%d MiB, %d other snaps", c.mib, c.others)
	}
	began := time.Now()
	r := &result{column: c, steps: map[string]series{}, sealed: map[string]series{}, tasks: map[string]series{}}
	pid, err := b.fresh(ctx, c, r)
	if err != nil {
		return nil, err
	}
	times := b.times(c)
	for i := range times {
		next := time.After(pace)
		if err := b.refresh(ctx, r, pid, c.snapFile(2+i)); err != nil {
			return nil, err
		}
		if err := renew(ctx, c); err != nil {
			return nil, err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.memory = memoryOf(pid)
	select {
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.idle = memoryOf(pid)
	if err := b.count(ctx, r, pid); err != nil {
		return nil, err
	}
	fmt.Printf("%-26s %d refreshes, gap %.1f ms, whole %.0f ms (%.0f s for this column)\n",
		c.title+":", times, r.gap.median(), r.change.median(), time.Since(began).Seconds())
	return r, nil
}

// times is how often a column is refreshed: half as often where the data is many files.
func (b *bench) times(c column) int {
	if c.seals {
		return max(3, b.o.refreshes/2)
	}
	return b.o.refreshes
}

// renew makes everything as each refresh is to find it: what stayed behind in
// the last one is ended, or runs from the current revision.
func renew(ctx context.Context, c column) error {
	if c.seals {
		return output(ctx, "systemctl", "restart", stayUnit)
	}
	return endSurvivors(ctx, c)
}

// endSurvivors waits until main has all its workers, and ends those of the ones
// before: each refresh is to find the same number.
func endSurvivors(ctx context.Context, c column) error {
	if c.workers == 0 {
		return nil
	}
	if err := awaitReady(c); err != nil {
		return err
	}
	return output(ctx, "systemctl", "stop", "snap."+snapName+".svc-r*.scope")
}

// awaitReady waits until main says that all its workers are there.
func awaitReady(c column) error {
	for end := time.Now().Add(30 * time.Second); c.workers > 0; time.Sleep(10 * time.Millisecond) {
		raw, err := os.ReadFile(logFile)
		if err != nil {
			return err
		}
		if strings.HasSuffix(string(raw), " ready\n") {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("cannot start %d workers: %s does not say that the service is ready", c.workers, logFile)
		}
	}
	return nil
}

// refresh measures one.
func (b *bench) refresh(ctx context.Context, r *result, pid int, file string) error {
	before, err := absences(logFile)
	if err != nil {
		return err
	}
	spent := []struct {
		pid int
		to  *series
		at  time.Duration
	}{{pid, &r.cpu, 0}, {1, &r.cpuInit, 0}, {busPID(), &r.cpuBus, 0}}
	for i := range spent {
		if spent[i].at, err = cpuTime(spent[i].pid); err != nil {
			return err
		}
	}
	io := fmt.Sprintf("/proc/%d/io", pid)
	written := field(io, "write_bytes")
	began := time.Now()
	ch, err := b.install(ctx, file)
	if err != nil {
		return err
	}
	r.request = append(r.request, milliseconds(time.Since(began)))
	r.change = append(r.change, milliseconds(ch.ReadyTime.Sub(ch.SpawnTime)))
	all, err := awaitAbsence(logFile, len(before)+1)
	if err != nil {
		return err
	}
	last := all[len(all)-1]
	r.gap = append(r.gap, milliseconds(last.to-last.from))
	time.Sleep(100 * time.Millisecond) // what follows the change is part of its cost
	for _, s := range spent {
		now, err := cpuTime(s.pid)
		if err != nil {
			return err
		}
		*s.to = append(*s.to, milliseconds(now-s.at))
	}
	r.written = append(r.written, float64(field(io, "write_bytes")-written)/(1<<20))
	return b.readChange(ctx, r, ch)
}

// readChange takes what the daemon itself has recorded.
func (b *bench) readChange(ctx context.Context, r *result, ch *client.Change) error {
	gap := regexp.MustCompile(`gap ([0-9.]+) ms`)
	sealed := regexp.MustCompile(`(\w+) ([0-9.]+) ms`)
	profiles := regexp.MustCompile(`compiled in ([0-9.]+) ms, loaded in ([0-9.]+) ms`)
	frozen := regexp.MustCompile(`workers frozen for ([0-9.]+) ms`)
	for _, t := range ch.Tasks {
		for _, line := range t.Log {
			if m := gap.FindStringSubmatch(line); m != nil {
				ms, _ := strconv.ParseFloat(m[1], 64)
				r.recorded = append(r.recorded, ms)
			}
			if m := profiles.FindStringSubmatch(line); m != nil {
				compile, _ := strconv.ParseFloat(m[1], 64)
				load, _ := strconv.ParseFloat(m[2], 64)
				r.compiled, r.loaded = append(r.compiled, compile), append(r.loaded, load)
			}
			if m := frozen.FindStringSubmatch(line); m != nil {
				ms, _ := strconv.ParseFloat(m[1], 64)
				r.frozen = append(r.frozen, ms)
			}
			if _, parts, ok := strings.Cut(line, "Steps of the seal: "); ok {
				for _, m := range sealed.FindAllStringSubmatch(parts, -1) {
					ms, _ := strconv.ParseFloat(m[2], 64)
					r.sealed[m[1]] = append(r.sealed[m[1]], ms)
				}
			}
			_, steps, ok := strings.Cut(line, "Steps of the switch, in ms: ")
			if !ok {
				continue
			}
			for s := range strings.SplitSeq(steps, ", ") {
				i := strings.LastIndexByte(s, ' ')
				if i < 0 {
					continue
				}
				ms, err := strconv.ParseFloat(s[i+1:], 64)
				if err != nil {
					return fmt.Errorf("cannot read the steps of a switch: %w", err)
				}
				if r.steps[s[:i]] == nil {
					r.stepNames = append(r.stepNames, s[:i])
				}
				r.steps[s[:i]] = append(r.steps[s[:i]], ms)
			}
		}
	}
	timings, err := b.client.Timings(ctx, ch.ID)
	if err != nil {
		return err
	}
	for _, t := range ch.Tasks {
		if r.tasks[t.Kind] == nil {
			r.taskNames = append(r.taskNames, t.Kind)
		}
		r.tasks[t.Kind] = append(r.tasks[t.Kind], milliseconds(timings.Tasks[t.ID].DoingTime))
	}
	return nil
}

// count refreshes again, slowed down by strace, for what is counted only.
func (b *bench) count(ctx context.Context, r *result, pid int) error {
	if b.o.traced == 0 {
		return nil
	}
	before, err := absences(logFile)
	if err != nil {
		return err
	}
	trace, err := startStrace(ctx, pid, work)
	if err != nil {
		return err
	}
	mon := startMonitor(ctx)
	for i := range b.o.traced {
		if _, err := b.install(ctx, r.snapFile(2+b.times(r.column)+i)); err != nil {
			trace.stop()
			return err
		}
		if err := renew(ctx, r.column); err != nil {
			trace.stop()
			return err
		}
	}
	all, err := awaitAbsence(logFile, len(before)+b.o.traced)
	if err != nil {
		trace.stop()
		return err
	}
	calls, err := trace.calls()
	if err != nil {
		return err
	}
	n := float64(b.o.traced)
	r.traced, r.synced, r.calls = b.o.traced, map[string]float64{}, map[string]float64{}
	for name, count := range mon.counts() {
		r.calls[name] = float64(count) / n
	}
	for _, c := range calls {
		r.syncs += 1 / n
		where := ""
		for _, a := range all[len(before):] {
			if c.at > a.from && c.at < a.to {
				r.syncsInGap += 1 / n
				where = "  (in the gap)"
			}
		}
		r.synced[c.call+" "+general(c.path)+where] += 1 / n
	}
	return nil
}

// general drops what differs from refresh to refresh: numbers, and the random
// names of temporary files.
func general(p string) string {
	p = regexp.MustCompile(`\.[0-9a-z]{8,}(\.tmp)?$`).ReplaceAllString(p, ".*$1")
	return regexp.MustCompile(`\bx?[0-9]+\b`).ReplaceAllString(p, "N")
}
