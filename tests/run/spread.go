// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// section holds what a project, a backend, a suite and a task have in common in spread's format.
type section struct {
	Summary     string      `yaml:"summary"`
	Details     string      `yaml:"details"`
	Environment environment `yaml:"environment"`
	Prepare     string      `yaml:"prepare"`
	Restore     string      `yaml:"restore"`
	Debug       string      `yaml:"debug"`
	PrepareEach string      `yaml:"prepare-each"`
	RestoreEach string      `yaml:"restore-each"`
	DebugEach   string      `yaml:"debug-each"`
	Variants    []string    `yaml:"variants"`
	KillTimeout duration    `yaml:"kill-timeout"`
	WarnTimeout duration    `yaml:"warn-timeout"`
	Priority    *int        `yaml:"priority"`
	Manual      bool        `yaml:"manual"`
}

// selection is where a suite or a task runs; empty lists are everywhere.
type selection struct {
	Systems  []string `yaml:"systems"`
	Backends []string `yaml:"backends"`
}

type project struct {
	section  `yaml:",inline"`
	Name     string              `yaml:"project"`
	Path     string              `yaml:"path"`
	Backends map[string]*backend `yaml:"backends"`
	Suites   map[string]*suite   `yaml:"suites"`
	Exclude  []string            `yaml:"exclude"`
	Include  []string            `yaml:"include"`
}

type backend struct {
	section  `yaml:",inline"`
	Type     string      `yaml:"type"`
	Allocate string      `yaml:"allocate"`
	Discard  string      `yaml:"discard"`
	Systems  []yaml.Node `yaml:"systems"`
	Wait     string      `yaml:"wait-timeout"`
	Halt     string      `yaml:"halt-timeout"`
}

type suite struct {
	section   `yaml:",inline"`
	selection `yaml:",inline"`
	name      string // "tests/smoke/"
}

type task struct {
	section   `yaml:",inline"`
	selection `yaml:",inline"`
	Execute   string `yaml:"execute"`
	name      string // "tests/smoke/device"
}

// duration is a time such as "90s" or "5m".
type duration time.Duration

func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	*d = duration(v)
	return err
}

// variable is one entry of an environment; Variants is empty for one that holds for all.
type variable struct {
	Name, Value string
	Variants    []string
}

// environment keeps the order in which it was written: later values may use earlier ones.
type environment []variable

func (e *environment) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return errors.New("environment must be a map")
	}
	for i := 0; i < len(n.Content); i += 2 {
		name, variants, _ := strings.Cut(n.Content[i].Value, "/")
		v := variable{Name: name, Value: n.Content[i+1].Value}
		if variants != "" {
			v.Variants = strings.Split(variants, ",")
		}
		*e = append(*e, v)
	}
	return nil
}

// job is one task on one system in one variant.
type job struct {
	name    string
	project *project
	backend *backend
	// backendName is the program in bin that makes the job's machines: "device" or "vm".
	backendName string
	suite       *suite
	task        *task
	variant     string
	env         []variable // in the order of export
	timeout     time.Duration
	again       bool // it has failed before
}

func readYAML(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}

// readJobs reads spread.yaml and every task.yaml under root, and returns all jobs of a backend, or of all if it is "",
// sorted by priority and name.
func readJobs(root, backendName string) ([]*job, error) {
	p := new(project)
	if err := readYAML(filepath.Join(root, "spread.yaml"), p); err != nil {
		return nil, err
	}
	if backendName != "" && p.Backends[backendName] == nil || len(p.Backends) == 0 {
		return nil, fmt.Errorf("cannot find backend %q in spread.yaml", backendName)
	}
	var jobs []*job
	for name, s := range p.Suites {
		tasks, err := s.tasks(root, name)
		if err != nil {
			return nil, err
		}
		for _, t := range tasks {
			for n, b := range p.Backends {
				if b == nil {
					return nil, fmt.Errorf("cannot use backend %s: it is empty", n)
				}
				if backendName == "" || n == backendName {
					jobs = append(jobs, jobsOf(p, b, n, s, t)...)
				}
			}
		}
	}
	sort.Slice(jobs, func(i, j int) bool {
		if a, b := jobs[i].priority(), jobs[j].priority(); a != b {
			return a > b
		}
		return jobs[i].name < jobs[j].name
	})
	return jobs, nil
}

// tasks reads the tasks of a suite, whose name is its directory.
func (s *suite) tasks(root, name string) ([]*task, error) {
	if s == nil || s.Summary == "" {
		return nil, fmt.Errorf("cannot use suite %s: it has no summary", name)
	}
	if !strings.HasSuffix(name, "/") {
		return nil, fmt.Errorf("cannot use suite %s: its name must end with a slash", name)
	}
	s.name = name
	files, err := filepath.Glob(filepath.Join(root, name, "*", "task.yaml"))
	if err != nil {
		return nil, err
	}
	var tasks []*task
	for _, file := range files {
		t := &task{name: name + filepath.Base(filepath.Dir(file))}
		if err := readYAML(file, t); err != nil {
			return nil, err
		}
		if t.Summary == "" {
			return nil, fmt.Errorf("cannot use task %s: it has no summary", t.name)
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

func (j *job) priority() int {
	for _, s := range []*section{&j.task.section, &j.suite.section} {
		if s.Priority != nil {
			return *s.Priority
		}
	}
	return 0
}

// jobsOf multiplies a task by systems and variants.
func jobsOf(p *project, b *backend, backendName string, s *suite, t *task) []*job {
	if !selects(s.Backends, backendName) || !selects(t.Backends, backendName) {
		return nil
	}
	levels := []*section{&p.section, &b.section, &s.section, &t.section}
	variants := variantsOf(levels)
	var jobs []*job
	for _, system := range b.systems() {
		if !selects(s.Systems, system) || !selects(t.Systems, system) {
			continue
		}
		for _, v := range variants {
			j := &job{project: p, backend: b, backendName: backendName, suite: s, task: t, variant: v}
			j.name = backendName + ":" + system + ":" + t.name
			if v != "" {
				j.name += ":" + v
			}
			j.timeout = 5 * time.Minute
			for _, l := range levels {
				if l.KillTimeout != 0 {
					j.timeout = time.Duration(l.KillTimeout)
				}
			}
			j.env = []variable{
				{Name: "SPREAD_JOB", Value: j.name}, {Name: "SPREAD_PROJECT", Value: p.Name},
				{Name: "SPREAD_PATH", Value: p.Path}, {Name: "SPREAD_BACKEND", Value: backendName},
				{Name: "SPREAD_SYSTEM", Value: system}, {Name: "SPREAD_SUITE", Value: s.name},
				{Name: "SPREAD_TASK", Value: t.name}, {Name: "SPREAD_VARIANT", Value: v},
			}
			for _, l := range levels {
				j.env = append(j.env, l.Environment.in(v)...)
			}
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// systems returns the names of a backend's systems; each is a word or a map of one word to its settings.
func (b *backend) systems() []string {
	var names []string
	for _, n := range b.Systems {
		if n.Kind == yaml.MappingNode && len(n.Content) != 0 {
			names = append(names, n.Content[0].Value)
		} else {
			names = append(names, n.Value)
		}
	}
	return names
}

// selects says whether a list of patterns takes name: an empty list takes all, "-x" takes all but x, "+x" adds x.
func selects(patterns []string, name string) bool {
	takes := len(patterns) == 0 || strings.HasPrefix(patterns[0], "-") || strings.HasPrefix(patterns[0], "+")
	for _, p := range patterns {
		bare := strings.TrimLeft(p, "+-")
		if ok, _ := path.Match(bare, name); ok {
			takes = !strings.HasPrefix(p, "-")
		}
	}
	return takes
}

// variantsOf returns the variants that the levels name between them; "" alone if they name none.
func variantsOf(levels []*section) []string {
	var all []string
	for _, l := range levels {
		all = append(all, l.Variants...)
		for _, v := range l.Environment {
			all = append(all, v.Variants...)
		}
	}
	var names []string
	for _, v := range all {
		if bare := strings.TrimLeft(v, "+-"); !slices.Contains(names, bare) {
			names = append(names, bare)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(levels, func(l *section) bool { return !selects(l.Variants, name) })
	})
	if len(names) == 0 {
		return []string{""}
	}
	sort.Strings(names)
	return names
}

// in returns the variables that hold in a variant; one named for the variant wins over one for all.
func (e environment) in(variant string) []variable {
	named := make(map[string]bool)
	for _, v := range e {
		if slices.Contains(v.Variants, variant) {
			named[v.Name] = true
		}
	}
	var out []variable
	for _, v := range e {
		if slices.Contains(v.Variants, variant) || len(v.Variants) == 0 && !named[v.Name] {
			out = append(out, v)
		}
	}
	return out
}

// value returns what the environment says of a variable, "" if nothing.
func (j *job) value(name string) string {
	last := ""
	for _, v := range j.env {
		if v.Name == name {
			last = v.Value
		}
	}
	return last
}

// matches says whether a filter of the command line takes the job: a prefix or a pattern of its name with or without
// backend and system. A manual task must be named whole.
func (j *job) matches(filter string) bool {
	short := j.task.name
	if j.variant != "" {
		short += ":" + j.variant
	}
	filter = strings.TrimPrefix(filter, "./")
	for _, name := range []string{j.name, short, j.task.name} {
		if name == strings.TrimSuffix(filter, "/") {
			return true
		}
		if j.task.Manual || j.suite.Manual {
			continue
		}
		if ok, _ := path.Match(filter, name); ok || strings.HasPrefix(name, filter) {
			return true
		}
		if before, after, ok := strings.Cut(filter, "..."); ok && strings.HasPrefix(name, before) && strings.HasSuffix(name, after) {
			return true
		}
	}
	return false
}
