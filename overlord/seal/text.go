// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"endured/overlord/snapstate"
)

// reasons collects clauses and the processes that they are about.
type reasons struct {
	order []string
	pids  map[string][]int
}

// add notes a clause; pid 0 is about none in particular.
func (r *reasons) add(clause string, pid int) {
	if r.pids == nil {
		r.pids = map[string][]int{}
	}
	if _, known := r.pids[clause]; !known {
		r.order = append(r.order, clause)
		r.pids[clause] = nil
	}
	if pid != 0 && !slices.Contains(r.pids[clause], pid) {
		r.pids[clause] = append(r.pids[clause], pid)
	}
}

func (r *reasons) clauses() []string {
	var out []string
	for _, clause := range r.order {
		if pids := r.pids[clause]; len(pids) > 0 {
			clause = pidList(pids) + ": " + clause
		}
		out = append(out, clause)
	}
	return out
}

// about leaves only what is about some processes, or about none in particular.
func (r *reasons) about(pids []int) *reasons {
	out := &reasons{}
	for _, clause := range r.order {
		if len(r.pids[clause]) == 0 {
			out.add(clause, 0)
		}
		for _, p := range both(r.pids[clause], pids) {
			out.add(clause, p)
		}
	}
	return out
}

// writableBy leaves only the files that some processes can write to, or nobody
// knows who.
func writableBy(files []snapstate.WritableFile, pids []int) []snapstate.WritableFile {
	var out []snapstate.WritableFile
	for _, f := range files {
		if by := both(f.PIDs, pids); len(by) > 0 || len(f.PIDs) == 0 {
			out = append(out, snapstate.WritableFile{Path: f.Path, PIDs: by, Why: f.Why})
		}
	}
	return out
}

func both(a, b []int) []int {
	return slices.DeleteFunc(slices.Clone(a), func(p int) bool { return !slices.Contains(b, p) })
}

// maxNamed is how many processes or files are named one by one.
const maxNamed = 4

// pidList says "pid 812" or "pids 812, 813 and 5 more".
func pidList(pids []int) string {
	pids = slices.Sorted(slices.Values(pids))
	if len(pids) == 1 {
		return fmt.Sprintf("pid %d", pids[0])
	}
	words := make([]string, 0, maxNamed)
	for _, p := range pids[:min(len(pids), maxNamed)] {
		words = append(words, fmt.Sprint(p))
	}
	return "pids " + andMore(words, len(pids))
}

func andMore(words []string, all int) string {
	if all > len(words) {
		return fmt.Sprintf("%s and %d more", strings.Join(words, ", "), all-len(words))
	}
	return strings.Join(words, ", ")
}

// writable says, for each reason and set of processes, how many files can
// still be written to: "2 files still writable by pid 812 (mapped): db, log/x".
func writable(files []snapstate.WritableFile) []string {
	type group struct {
		by, why string
		paths   []string
		n       int
	}
	var groups []*group
	for _, f := range files {
		by := ""
		if len(f.PIDs) > 0 {
			by = " by " + pidList(f.PIDs)
		}
		i := slices.IndexFunc(groups, func(g *group) bool { return g.by == by && g.why == f.Why })
		if i < 0 {
			groups = append(groups, &group{by: by, why: f.Why})
			i = len(groups) - 1
		}
		g := groups[i]
		g.n++
		if len(g.paths) < maxNamed {
			g.paths = append(g.paths, cmp.Or(f.Path, "."))
		}
	}
	var out []string
	for _, g := range groups {
		noun := "files"
		if g.n == 1 {
			noun = "file"
		}
		out = append(out, fmt.Sprintf("%d %s still writable%s (%s): %s", g.n, noun, g.by, g.why, andMore(g.paths, g.n)))
	}
	return out
}

// Describe says in a line what became of the data of a revision, for the log of
// the change.
func Describe(s *snapstate.Seal) string {
	n := len(s.Processes)
	who := fmt.Sprintf("%d processes that stay", n)
	if n == 1 {
		who = fmt.Sprintf("pid %d, which stays", s.Processes[0].PID)
	}
	text := fmt.Sprintf("The data of revision %s is %s for %s", s.Revision, s.State, who)
	if len(s.Why) > 0 {
		text += ": " + strings.Join(s.Why, "; ")
	}
	return text
}
