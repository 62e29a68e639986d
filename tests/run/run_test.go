// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"endured/osutil"
)

// project writes a tree of files and returns its directory.
func writeProject(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "\t", "    ")), 0644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const spreadYAML = `
project: demo
path: /srv/demo
environment:
	A: project
	B: $A-and-more
	C/x: project-x
backends:
	device:
		type: adhoc
		allocate: ADDRESS nowhere
		systems: [debian-12, {debian-13: {username: root}}]
	other:
		systems: [debian-11]
suites:
	tests/one/:
		summary: One
		environment:
			HOST_SIDE: 1
			A/x,y: suite
`

func names(jobs []*job) string {
	var all []string
	for _, j := range jobs {
		all = append(all, strings.TrimPrefix(j.name, "device:"))
	}
	return strings.Join(all, " ")
}

func TestReadJobs(t *testing.T) {
	t.Parallel()
	root := writeProject(t, map[string]string{
		"spread.yaml":               spreadYAML,
		"tests/one/plain/task.yaml": "summary: P\nvariants: [x]\nsystems: [debian-12]\nexecute: 'true'\n",
		"tests/one/first/task.yaml": "summary: F\npriority: 5\nsystems: [-debian-13]\nvariants: [-y]\n",
		"tests/one/other/task.yaml": "summary: O\nbackends: [other]\n",
		"tests/one/by-hand/task.yaml": "summary: M\nmanual: true\nvariants: [y]\nsystems: ['*-13']\nkill-timeout: 7s\n" +
			"environment: {C: \"task \\\"quoted\\\"\"}\n",
	})
	jobs, err := readJobs(root, "device")
	if err != nil {
		t.Fatal(err)
	}
	want := "debian-12:tests/one/first:x debian-12:tests/one/plain:x debian-13:tests/one/by-hand:y"
	if got := names(jobs); got != want {
		t.Fatalf("got %s\nwant %s", got, want)
	}
	if got := jobs[0].timeout; got != 5*time.Minute {
		t.Errorf("default kill-timeout is %v", got)
	}
	hand := jobs[2]
	if hand.timeout != 7*time.Second {
		t.Errorf("kill-timeout of the task is %v", hand.timeout)
	}
	script := hand.script("/srv/demo", "", nil)
	for _, line := range []string{`export A="suite"`, `export C="task \"quoted\""`, "cd '/srv/demo/tests/one/by-hand'"} {
		if !strings.Contains(script, line+"\n") {
			t.Errorf("script lacks %s:\n%s", line, script)
		}
	}
	if strings.Index(script, `A="project"`) > strings.Index(script, `B="$A-and-more"`) {
		t.Error("the order of the environment is lost")
	}
	for _, c := range []struct{ filter, want string }{
		{"tests/one/", "debian-12:tests/one/first:x debian-12:tests/one/plain:x"},
		{"./tests/one/pl", "debian-12:tests/one/plain:x"},
		{"tests/*/first:x", "debian-12:tests/one/first:x"},
		{"device:debian-12:...:x", "debian-12:tests/one/first:x debian-12:tests/one/plain:x"},
		{"tests/one/by-hand", "debian-13:tests/one/by-hand:y"},
		{"nothing", ""},
	} {
		if got := names(choose(slices.Clone(jobs), []string{c.filter})); got != c.want {
			t.Errorf("filter %s takes %q, not %q", c.filter, got, c.want)
		}
	}
	if got := len(choose(slices.Clone(jobs), nil)); got != 2 {
		t.Errorf("%d jobs without filter", got)
	}
}

func TestReadJobsRefuses(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"a misspelt key":  {"spread.yaml": spreadYAML, "tests/one/a/task.yaml": "summary: A\nexecuted: true\n"},
		"no summary":      {"spread.yaml": spreadYAML, "tests/one/a/task.yaml": "execute: 'true'\n"},
		"a bad timeout":   {"spread.yaml": spreadYAML, "tests/one/a/task.yaml": "summary: A\nkill-timeout: soon\n"},
		"no backend":      {"spread.yaml": "project: x\npath: /x\n"},
		"no spread.yaml":  {},
		"a suite unsaid":  {"spread.yaml": strings.Replace(spreadYAML, "summary: One", "details: One", 1)},
		"no slash at end": {"spread.yaml": strings.Replace(spreadYAML, "tests/one/:", "tests/one:", 1)},
	} {
		if _, err := readJobs(writeProject(t, files), "device"); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// runHostJobs runs every job of a project on the host, with a device program that does nothing.
func runHostJobs(t *testing.T, root string) *report {
	t.Helper()
	jobs, err := readJobs(root, "device")
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{root: root, logs: t.TempDir(), report: new(report)}
	r.jobs = choose(jobs, nil)
	(&worker{runner: r, kind: kind{name: "device", program: "/bin/true"}, id: 1}).work(context.Background())
	return r.report
}

func TestRunOnHost(t *testing.T) {
	t.Parallel()
	one := strings.Replace(spreadYAML, "[debian-12, {debian-13: {username: root}}]", "[debian-12]", 1)
	one = strings.ReplaceAll(one, "A/x,y", "A")
	one = strings.ReplaceAll(one, "C/x", "C")
	one += "\t\tprepare-each: echo prepare-each >>$SPREAD_PATH/trace\n\t\trestore-each: echo restore-each >>$SPREAD_PATH/trace\n"
	for _, c := range []struct{ name, task, trace, err string }{
		{"good", "prepare: echo prepare $A $B >>$SPREAD_PATH/trace\nexecute: echo execute >>$SPREAD_PATH/trace\n" +
			"restore: echo restore >>$SPREAD_PATH/trace\n",
			"prepare-each,prepare suite project-and-more,execute,restore,restore-each", ""},
		{"failing", "execute: |\n\tfalse\n\techo on >>$SPREAD_PATH/trace\ndebug: echo debug >>$SPREAD_PATH/trace\n" +
			"restore: echo restore >>$SPREAD_PATH/trace\n",
			"prepare-each,debug,restore,restore-each", "failed"},
		{"unprepared", "prepare: exit 3\nexecute: echo execute >>$SPREAD_PATH/trace\n",
			"prepare-each,restore-each", "failed"},
		{"not restored", "execute: 'true'\nrestore: exit 1\n", "prepare-each,restore-each", "failed"},
		{"unset variable", "execute: echo $NO_SUCH >>$SPREAD_PATH/trace\n", "prepare-each,restore-each", "failed"},
		{"hanging", "kill-timeout: 300ms\nexecute: |\n\tsleep 100 &\n\techo $! >>$SPREAD_PATH/trace\n\twait\n",
			"prepare-each,PID,restore-each", "failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := writeProject(t, map[string]string{"spread.yaml": one, "tests/one/a/task.yaml": "summary: A\n" + c.task})
			r := runHostJobs(t, root)
			data, err := os.ReadFile(filepath.Join(root, "trace"))
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			for i, l := range lines {
				if strings.Trim(l, "0123456789") == "" {
					lines[i] = "PID"
					pid, _ := strconv.Atoi(l)
					ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
					if err := osutil.WaitPIDs(ctx, []int{pid}); err != nil {
						t.Error("the background process lives on")
					}
					stop()
				}
			}
			if got := strings.Join(lines, ","); got != c.trace {
				t.Errorf("trace %s, not %s", got, c.trace)
			}
			if (r.bad == 1) != (c.err != "") || r.good+r.bad != 1 {
				t.Errorf("%d passed, %d failed", r.good, r.bad)
			}
			if r.finish() != (c.err == "") {
				t.Error("the verdict is wrong")
			}
		})
	}
}

func TestWorkersHelp(t *testing.T) {
	t.Parallel()
	root := writeProject(t, map[string]string{
		"spread.yaml":           spreadYAML,
		"tests/one/a/task.yaml": "summary: A\nvariants: [x]\nexecute: echo $SPREAD_BACKEND $DEVICE >>$SPREAD_PATH/trace\n",
	})
	jobs, err := readJobs(root, "")
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{root: root, logs: t.TempDir(), report: new(report), jobs: jobs}
	w := &worker{runner: r, kind: kind{name: "other", program: "/bin/true"}, id: 1}
	w.work(t.Context(), kind{name: "device", program: "/usr/bin/true"})
	if !r.report.finish() || len(r.jobs) != 0 {
		t.Errorf("%d passed, %d failed, %d were left", r.report.good, r.report.bad, len(r.jobs))
	}
	data, err := os.ReadFile(filepath.Join(root, "trace"))
	if want := "other /bin/true\n" + strings.Repeat("device /usr/bin/true\n", 2); err != nil || string(data) != want {
		t.Errorf("got %q (%v), want %q", data, err, want)
	}
}

func TestNothingRunIsFailure(t *testing.T) {
	t.Parallel()
	if new(report).finish() {
		t.Error("a run without jobs passes")
	}
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"", ""}, {"a\n", "a\n"}, {"a\nb\n", "a\nb\n"}, {"a\nb\nc\n", "b\nc\n"}, {"a\nb\nc", "b\nc"},
	} {
		if got := string(lastLines([]byte(c.in), 2)); got != c.want {
			t.Errorf("last two lines of %q: %q", c.in, got)
		}
	}
}

func TestAgain(t *testing.T) {
	r := &report{}
	a, b := &job{name: "a"}, &job{name: "b"}
	r.failed(a, 0, "", "", errors.New("busy"))
	r.failed(b, 0, "", "", errors.New("wrong"))
	if got := r.again(1); got != nil {
		t.Errorf("two failures are run again where at most one is: %v", got)
	}
	jobs := r.again(2)
	if len(jobs) != 2 || !jobs[0].again {
		t.Fatalf("got %v", jobs)
	}
	r.passed(jobs[0], 0, "")
	r.failed(jobs[1], 0, "", "", errors.New("wrong"))
	if r.finish() {
		t.Error("what failed twice is no success")
	}
	if len(r.flaky) != 1 || r.flaky[0] != "a" || len(r.lost) != 1 || r.lost[0].name != "b" {
		t.Errorf("flaky %v, lost %v", r.flaky, r.lost)
	}
}
