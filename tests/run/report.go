// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// tailLines is how much of a failed job's output is shown.
const tailLines = 100

// report prints a line per job as it ends, and counts.
type report struct {
	verbose bool

	mu        sync.Mutex
	good, bad int
	lost      []*job   // that failed
	flaky     []string // that failed and then passed
}

func (r *report) passed(j *job, took time.Duration, log string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.good++
	if j.again {
		r.flaky = append(r.flaky, j.name)
	}
	fmt.Printf("ok    %6.2fs  %s\n", took.Seconds(), j.name)
	if r.verbose {
		data, _ := os.ReadFile(log)
		os.Stdout.Write(data)
	}
}

func (r *report) failed(j *job, took time.Duration, log, about string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad++
	r.lost = append(r.lost, j)
	fmt.Printf("FAIL  %6.2fs  %s\n      %s\n", took.Seconds(), j.name, strings.ReplaceAll(err.Error(), "\n", "\n      "))
	data, _ := os.ReadFile(log)
	if !r.verbose {
		data = lastLines(data, tailLines)
	}
	if len(data) != 0 {
		fmt.Printf("----- output (%s)\n%s", log, data)
	}
	if about != "" {
		fmt.Print("----- debug\n" + strings.TrimSuffix(about, "\n") + "\n")
	}
	fmt.Println("-----")
}

func lastLines(data []byte, n int) []byte {
	lines := bytes.SplitAfter(data, []byte("\n"))
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	return bytes.Join(lines[max(0, len(lines)-n):], nil)
}

// again returns the jobs that failed, to be run once more, and forgets that
// they did; none if there are more than most.
func (r *report) again(most int) []*job {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lost) > most {
		return nil
	}
	var jobs []*job
	for _, j := range r.lost {
		c := *j
		c.again = true
		jobs = append(jobs, &c)
	}
	r.bad, r.lost = 0, nil
	return jobs
}

// finish prints the last lines and returns whether all is well: something ran and nothing failed.
func (r *report) finish() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.flaky {
		fmt.Println("flaky: ", name, "(it failed once, and passed when it ran again)")
	}
	for _, j := range r.lost {
		fmt.Println("failed:", j.name)
	}
	fmt.Printf("%d passed, %d failed\n", r.good, r.bad)
	return r.bad == 0 && r.good != 0
}
