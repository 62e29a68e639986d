// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"endured/osutil"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/wrappers"
)

// world describes everything that a failed change must put back: the files
// below the root, the units and their processes, and the record.
func (m *machine) world() []string {
	m.t.Helper()
	out := append(m.files(), m.units()...)
	rec, err := json.Marshal(m.record())
	if err != nil {
		m.t.Fatal(err)
	}
	return append(out, "record "+string(rec))
}

func (m *machine) files() []string {
	m.t.Helper()
	var out []string
	err := filepath.WalkDir(m.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(p, m.root)
		fi, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case p == m.dirs.StateDB():
		case strings.HasPrefix(rel, "/run/snapd/seal/"): // ends with the boot; see soundSeals
		case d.IsDir():
			// what is shared by all snaps may stay when it is empty
			if strings.HasPrefix(rel, "/var/snap/") || strings.HasPrefix(rel, "/snap/") && rel != "/snap/bin" {
				out = append(out, fmt.Sprintf("%s %s", rel, fi.Mode()))
			}
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			out = append(out, rel+" -> "+to)
		default:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out = append(out, fmt.Sprintf("%s %s %x", rel, fi.Mode(), sha256.Sum256(data)))
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *machine) units() []string {
	m.t.Helper()
	list, err := m.sd.ListUnits(m.t.Context(), "snap*")
	if err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for _, l := range list {
		st := m.status(l.Name)
		if st.LoadState == "not-found" && st.ActiveState == "inactive" || l.Name == gate && st.JobID == 0 {
			continue
		}
		// PID 1 forgets an inactive unit without a file that nothing refers to
		if _, err := os.Stat(m.root + st.FragmentPath); err != nil && st.ActiveState == "inactive" && strings.HasSuffix(l.Name, ".mount") {
			continue
		}
		active := st.ActiveState
		line := fmt.Sprintf("%s %s %s %s reload=%v job=%s", l.Name, st.LoadState, active, st.UnitFileState, st.NeedDaemonReload, st.JobType)
		if st.MainPID != 0 {
			line += fmt.Sprintf(" from %s pid %d", m.runs(st.MainPID), st.MainPID)
		}
		out = append(out, line)
	}
	sort.Strings(out)
	return out
}

// runs tells which revision a process was started from.
func (m *machine) runs(pid int) string {
	env, err := osutil.Environ(pid)
	if err != nil {
		return "?"
	}
	return env["SNAP_REVISION"]
}

// same fails the test where two descriptions differ.
func (m *machine) same(before, after []string) {
	m.t.Helper()
	for _, l := range before {
		if !slices.Contains(after, l) {
			m.errorf("- %s", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			m.errorf("+ %s", l)
		}
	}
}

// sound checks everything that must hold whenever no change is in progress.
func (m *machine) sound() {
	m.t.Helper()
	if st := m.status(gate); st.JobID != 0 || st.ActiveState != "inactive" {
		m.errorf("the gate is %s with job %d", st.ActiveState, st.JobID)
	}
	m.missing(filepath.Join(m.dirs.Units(), "multi-user.target.wants", gate))
	m.missing(m.dirs.SwitchMark("demo"))
	if left, err := wrappers.StopReasons(m.dirs); len(left) > 0 || err != nil {
		m.errorf("still told why they are stopped: %v %v", left, err)
	}
	rec := m.record()
	if rec == nil {
		m.absent()
		return
	}
	var revs []string
	for _, e := range rec.Sequence {
		revs = append(revs, e.Revision.String())
		m.soundMount(e)
	}
	blobs := append([]string(nil), revs...)
	for i := range blobs {
		blobs[i] = "demo_" + blobs[i] + ".snap"
	}
	m.holds(m.dirs.Blobs(), blobs...)
	links := []string{"current"}
	if !rec.Active {
		links = nil
	}
	m.holds(m.dirs.Snap("demo"), append(links, revs...)...)
	data := append(append(slices.Clone(links), "common"), revs...)
	for _, s := range rec.Seals {
		if s.Flagged > 0 {
			data = append(data, filepath.Base(m.dirs.FlagMark("demo", s.Revision)))
		}
	}
	m.holds(m.dirs.SnapData("demo"), data...)
	if rec.Active {
		for _, l := range []string{m.dirs.Current("demo"), m.dirs.CurrentData("demo")} {
			if to, err := os.Readlink(l); to != rec.Current.String() {
				m.errorf("%s -> %q (%v), current is %s", l, to, err, rec.Current)
			}
		}
	}
	m.soundServices(rec)
	m.soundSeals(rec)
}

// soundSeals checks that nothing is sealed that the record does not name.
func (m *machine) soundSeals(rec *snapstate.Record) {
	m.t.Helper()
	books, err := filepath.Glob(filepath.Join(m.dirs.Run(), "seal", "*"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, b := range books {
		if !slices.ContainsFunc(rec.Seals, func(s snapstate.Seal) bool { return m.dirs.SealBook("demo", s.Revision) == b }) {
			m.errorf("%s is left", b)
		}
	}
}

func (m *machine) soundMount(e snapstate.Revision) {
	m.t.Helper()
	st := m.status(wrappers.MountUnitName("demo", e.Revision))
	if st.ActiveState != "active" || st.UnitFileState != "enabled" {
		m.errorf("%s is %s, %s", st.Name, st.ActiveState, st.UnitFileState)
	}
	got, err := os.ReadFile(filepath.Join(m.dirs.Mount("demo", e.Revision), "meta/snap.yaml"))
	if err != nil || string(got) != e.YAML {
		m.errorf("revision %s is not what the record says (%v)", e.Revision, err)
	}
}

func (m *machine) soundServices(rec *snapstate.Record) {
	m.t.Helper()
	info, err := snap.Parse([]byte(rec.Rev(rec.Current).YAML))
	if err != nil {
		m.t.Fatal(err)
	}
	info.Revision = rec.Current
	conf, err := m.o.Configuration("system", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	bound := "TimeoutStopSec=30s\n"
	if conf["refresh"] != nil {
		bound = "TimeoutStopSec=4s\n"
	}
	for _, a := range []string{"svc", "keeper", "extra", "web"} {
		unit := "snap.demo." + a + ".service"
		st := m.status(unit)
		app := info.Apps[a]
		if st.JobID != 0 || st.NeedDaemonReload {
			m.errorf("%s has job %d %s, needs reload: %v", unit, st.JobID, st.JobType, st.NeedDaemonReload)
		}
		if app == nil || !rec.Active {
			if st.LoadState != "not-found" || st.ActiveState != "inactive" {
				m.errorf("%s is %s, %s, and should not be", unit, st.LoadState, st.ActiveState)
			}
			continue
		}
		off := slices.Contains(rec.HandStopped, a) || st.UnitFileState == "disabled"
		switch {
		case a == "web":
			if s := m.status(socket); s.UnitFileState == "enabled" && s.ActiveState != "active" {
				m.errorf("%s is %s", socket, s.ActiveState)
			}
		case off != (st.MainPID == 0):
			m.errorf("%s has pid %d, to be down: %v", unit, st.MainPID, off)
		case !off && a != "keeper" && m.runs(st.MainPID) != rec.Current.String():
			m.errorf("%s runs from %s, current is %s", unit, m.runs(st.MainPID), rec.Current)
		case !off && m.runs(st.MainPID) == "?":
			m.errorf("the process of %s is gone", unit)
		}
		if file := text(filepath.Join(m.dirs.Units(), unit)); !strings.Contains(file, bound) {
			m.errorf("%s lacks %s:\n%s", unit, bound, file)
		}
		if data, err := os.ReadFile(filepath.Join(m.dirs.Units(), unit)); !strings.Contains(string(data), "X-Revision="+rec.Current.String()+"\n") {
			m.errorf("%s is not of revision %s (%v)", unit, rec.Current, err)
		}
		_, err := os.Stat(wrappers.PinPath(m.dirs, unit))
		if pinned := err == nil; pinned != (!off && st.MainPID != 0 && m.runs(st.MainPID) != rec.Current.String()) {
			m.errorf("%s is pinned: %v", unit, pinned)
		}
	}
}

// absent checks that nothing is left of the snap.
func (m *machine) absent() {
	m.t.Helper()
	for _, d := range []string{m.dirs.Snap("demo"), m.dirs.SnapData("demo")} {
		m.missing(d)
	}
	m.holds(m.dirs.Blobs())
	for _, f := range m.files() {
		if strings.Contains(f, "demo") && !strings.Contains(f, "/snapshots/") {
			m.errorf("left: %s", f)
		}
	}
	for _, u := range m.units() {
		m.errorf("left: %s", u)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for pid, p := range m.procs {
		m.errorf("left: pid %d of %s", pid, p.unit)
	}
}

// errorf says at which point of a scenario something is wrong.
func (m *machine) errorf(format string, args ...any) {
	m.t.Helper()
	m.t.Errorf(m.where+format, args...)
}

func (m *machine) missing(path string) {
	m.t.Helper()
	if _, err := os.Lstat(path); err == nil {
		m.errorf("%s exists", strings.TrimPrefix(path, m.root))
	}
}

// holds checks the names in a directory.
func (m *machine) holds(dir string, want ...string) {
	m.t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		m.errorf("%v", err)
	}
	var have []string
	for _, e := range es {
		have = append(have, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		m.errorf("%s holds %v, want %v", strings.TrimPrefix(dir, m.root), have, want)
	}
}
