// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"endured/dirs"
	"endured/osutil/treecopy"
	"endured/overlord/seal"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
)

// noSystemd knows no unit: processes are found by their cgroups alone.
type noSystemd struct{ snapstate.Systemd }

func (noSystemd) Status(_ context.Context, units ...string) ([]systemd.UnitStatus, error) {
	return make([]systemd.UnitStatus, len(units)), nil
}

// world is a root with one snap, whose revision 1 is left for 2.
type world struct {
	t    *testing.T
	dirs dirs.Dirs
	data string
	st   *state.State
	m    *seal.Manager
	rec  *snapstate.Record
	pids string // the cgroup.procs of its service

	config seal.Config
	points []string // that were passed
	strike string   // the point at which the daemon is killed
}

func (w *world) passed(point string) {
	w.points = append(w.points, point)
	if point == w.strike {
		runtime.Goexit()
	}
}

// struck does something that a kill ends at a point, and starts a new manager.
func (w *world) struck(point string, do func() error) {
	w.t.Helper()
	ended, done := false, make(chan struct{})
	w.strike = point
	go func() {
		defer close(done)
		if err := do(); err != nil {
			w.t.Error(err)
		}
		ended = true
	}()
	<-done
	w.strike = ""
	if ended {
		w.t.Errorf("%s was not passed, but %v", point, w.points)
	}
	w.m.Stop()
	w.m = seal.New(w.config)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can seal")
	}
	root := t.TempDir()
	d := dirs.New(root)
	w := &world{t: t, dirs: d, rec: &snapstate.Record{
		Name: "demo", Current: 2, Sequence: []snapstate.Revision{{Revision: 1}, {Revision: 2}},
	}}
	w.data = d.Data("demo", w.rec.Sequence[0].Revision)
	w.pids = filepath.Join(root, "cgroup/system.slice/snap.demo.svc.service/cgroup.procs")
	for _, dir := range []string{filepath.Join(w.data, "sub"), d.Lib(), filepath.Dir(w.pids)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.write("f", "x")
	var err error
	if w.st, err = state.Open(d.StateDB(), state.Options{}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	snaps := snapstate.New(snapstate.Config{Dirs: d, State: w.st, Systemd: noSystemd{}, Log: log, CgroupRoot: filepath.Join(root, "cgroup")}, state.NewRunner(w.st, log))
	w.config = seal.Config{Dirs: d, State: w.st, Snaps: snaps, Log: log, Patience: time.Minute, Fault: w.passed}
	w.m = seal.New(w.config)
	t.Cleanup(func() {
		w.m.Stop()
		if err := errors.Join(w.st.Close(), treecopy.Remove(context.Background(), w.data)); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.data, name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// needsFlags skips where the file system does not heed the flag.
func (w *world) needsFlags() {
	w.t.Helper()
	tree, err := treecopy.OpenTree(w.data)
	if err != nil {
		w.t.Fatal(err)
	}
	defer tree.Close()
	if _, writes := tree.CanFlag(); !writes {
		w.t.Skip("the temporary directory is on a file system that has no immutable flag for open descriptors")
	}
}

// actor is a shell of revision 1, in the data.
type actor struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// actor starts one; apart gives it a mount namespace with mounts as a service's.
func (w *world) actor(apart bool) *actor {
	w.t.Helper()
	return w.actorIn(w.pids, apart)
}

// actorIn starts one that is listed in that cgroup.procs.
func (w *world) actorIn(pids string, apart bool) *actor {
	w.t.Helper()
	a := &actor{t: w.t, cmd: exec.Command("bash")}
	if apart {
		a.cmd = exec.Command("unshare", "--mount", "bash")
	}
	a.cmd.Dir = w.data
	a.cmd.Env = append(os.Environ(), "SNAP_NAME=demo", "SNAP_REVISION=1", "D="+w.data)
	a.cmd.Stderr = os.Stderr
	a.in, _ = a.cmd.StdinPipe()
	out, _ := a.cmd.StdoutPipe()
	a.out = bufio.NewScanner(out)
	if err := a.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		a.in.Close()
		a.cmd.Wait()
	})
	if apart {
		top := w.dirs.AllData()
		a.must(fmt.Sprintf("mount --bind %s %s && mount -o remount,bind,ro %s && mount --bind $D $D && mount -o remount,bind,rw $D && cd $D", top, top, top))
	}
	f, err := os.OpenFile(pids, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err == nil {
		_, err = fmt.Fprintln(f, a.cmd.Process.Pid)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (a *actor) does(command string) bool {
	a.t.Helper()
	fmt.Fprintf(a.in, "{ %s; } >/dev/null 2>&1 && echo yes || echo no\n", command)
	if !a.out.Scan() {
		a.t.Fatal("the actor is gone")
	}
	return a.out.Text() == "yes"
}

func (a *actor) must(command string) {
	a.t.Helper()
	if !a.does(command) {
		a.t.Errorf("cannot %s", command)
	}
}

func (a *actor) mustNot(command string) {
	a.t.Helper()
	if a.does(command) {
		a.t.Errorf("can %s", command)
	}
}

func (w *world) seal() *snapstate.Seal {
	w.t.Helper()
	res, err := w.m.Seal(w.t.Context(), seal.Spec{Record: w.rec, Revision: 1, Successor: 2})
	if err != nil {
		w.t.Fatal(err)
	}
	if res.Seal == nil {
		w.t.Fatal("there is nobody to seal off")
	}
	return res.Seal
}

func (w *world) unseal() {
	w.t.Helper()
	if err := w.m.Unseal(w.t.Context(), w.rec, 1); err != nil {
		w.t.Fatal(err)
	}
	for _, path := range []string{w.dirs.FlagMark("demo", w.rec.Sequence[0].Revision), w.dirs.SealBook("demo", w.rec.Sequence[0].Revision)} {
		if _, err := os.Lstat(path); err == nil {
			w.t.Errorf("%s is left", path)
		}
	}
}

func TestNobodyStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	res, err := w.m.Seal(t.Context(), seal.Spec{Record: w.rec, Revision: 1, Successor: 2})
	if err != nil || res.Seal != nil {
		t.Errorf("%+v %v", res.Seal, err)
	}
	w.unseal()
}

// TestMountAlone: a service that has nothing open is sealed by its mount, and
// nothing is flagged.
func TestMountAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.actor(true)
	for range 2 { // as after a crash
		if s := w.seal(); s.Flagged != 0 || len(s.Writable) != 0 || s.State == snapstate.NotSealed {
			t.Errorf("%+v", s)
		}
	}
	if state, _ := w.seal().Of("snap.demo.svc.service"); state == "" {
		t.Error("its unit is not judged")
	}
	a.mustNot("echo >f")
	a.mustNot("echo >$D/f")
	a.must("cat f")
	w.unseal()
	a.must("echo >f && echo >$D/f")
}

// TestOpenFiles: what is open is flagged; a process that stands in the data
// while a file is open makes everything flagged, and gets it back.
func TestOpenFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsFlags()
	a := w.actor(true)
	w.write("own", "x")
	if out, err := exec.Command("chattr", "+i", filepath.Join(w.data, "own")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.write("log", "x")
	if out, err := exec.Command("chattr", "+a", filepath.Join(w.data, "log")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a.must("exec 7>>f && ln f sub/g && exec 8>>sub/g && exec 9>>log")
	for range 2 {
		if s := w.seal(); s.Flagged == 0 || len(s.Writable) != 0 {
			t.Errorf("%+v", s)
		}
	}
	for _, c := range []string{"echo x >&7", "echo x >&8", "echo x >&9", "echo >f", "echo >new", "rm -f f", "mv f z", "echo >$D/f", "echo >sub/new"} {
		a.mustNot(c)
	}
	a.must("cat f sub/g")
	w.unseal()
	a.must("echo x >&7 && echo x >&8 && echo >>f && echo >new && rm new")
	a.must("echo x >>log")
	a.mustNot("echo >own") // flags of their own stay
	a.mustNot("echo >log")
}

// TestNoPatience: where flagging everything takes too long, what is open comes
// first, and it is told that the rest is still to be done.
func TestNoPatience(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsFlags()
	a := w.actor(true)
	a.must("exec 7>>f && exec 8>>sub/g")
	w.config.Patience = time.Nanosecond
	w.m = seal.New(w.config)
	s := w.seal()
	if !s.Pending || s.State != snapstate.NotSealed || len(s.Writable) > 0 || !strings.Contains(strings.Join(s.Why, "; "), "not all of its files are immutable yet") {
		t.Errorf("%+v", s)
	}
	for _, c := range []string{"echo x >&7", "echo x >&8", "echo >$D/f"} {
		a.mustNot(c)
	}
	a.must("echo >new") // it stands in the data
	w.unseal()
	a.must("echo x >&7 && echo x >&8")
}

// TestGuests: another snap that has some of the data mounted is kept off, too,
// and gets back what it had: what it could only read it can only read.
func TestGuests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, dir := range []string{"in", "out", "seen"} {
		if err := os.MkdirAll(filepath.Join(w.data, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.rec.Sequence[0].YAML = "name: demo\nversion: '1'\nsummary: s\ndescription: d\n"
	write := []string{"in"}
	config := w.config
	config.Shared = func(*snap.Info) (w, r []string) { return write, []string{"seen"} }
	w.m = seal.New(config)
	pids := filepath.Join(filepath.Dir(filepath.Dir(w.pids)), "snap.other.app.service/cgroup.procs")
	if err := os.MkdirAll(filepath.Dir(pids), 0o755); err != nil {
		t.Fatal(err)
	}
	away := t.TempDir()
	guest := w.actorIn(pids, true)
	guest.must(fmt.Sprintf("umount -l $D && mkdir %[1]s/in %[1]s/seen && mount --bind $D/in %[1]s/in && mount -o remount,bind,rw %[1]s/in && "+
		"mount --bind $D/seen %[1]s/seen && mount -o remount,bind,ro %[1]s/seen && cd /", away))
	guest.must("echo >" + away + "/in/f")
	for range 2 {
		s := w.seal()
		if len(s.Processes) != 1 || s.Processes[0].Snap != "other" || s.Processes[0].App != "app" || len(s.Processes[0].By) == 0 {
			t.Errorf("%+v", s)
		}
	}
	guest.mustNot("echo >" + away + "/in/f")
	guest.must("cat " + away + "/in/f")
	// what mounts it now finds it closed, and what it may only read stays so
	closed := w.dirs.SharedSealed("demo", snap.Revision(1))
	if _, err := os.Stat(closed); err != nil {
		t.Error(err)
	}
	late := w.actorIn(pids, true)
	late.must(fmt.Sprintf("umount -l $D && mkdir %[1]s/late && mount --bind $D/in %[1]s/in && mount -o remount,bind,ro %[1]s/in && "+
		"mount --bind $D/seen %[1]s/late && mount -o remount,bind,ro %[1]s/late && cd /", away))
	w.unseal()
	if _, err := os.Stat(closed); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	late.must("echo >" + away + "/in/f")
	late.mustNot("echo >" + away + "/late/f")
	guest.must("echo >" + away + "/in/f")
	guest.mustNot("echo >" + away + "/seen/f")
	write = nil
	if res, err := w.m.Seal(t.Context(), seal.Spec{Record: w.rec, Revision: 1, Successor: 2}); err != nil || res.Seal != nil {
		t.Errorf("of a snap that shares nothing: %+v %v", res.Seal, err)
	}
}

// TestNoMounts: a process in the daemon's own namespace is kept off by flags.
func TestNoMounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsFlags()
	a := w.actor(false)
	s := w.seal()
	if s.State != snapstate.PartlySealed || !strings.Contains(strings.Join(s.Why, ";"), "CAP_") {
		t.Errorf("%+v", s)
	}
	a.mustNot("echo >f")
	a.mustNot("echo >sub/new")
	w.unseal()
	a.must("echo >f && echo >sub/new")
}

// TestOutsideNames: a file with a name elsewhere is not flagged, and is reported.
func TestOutsideNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsFlags()
	a := w.actor(true)
	if err := errors.Join(os.MkdirAll(w.dirs.Common("demo"), 0o755), os.Link(filepath.Join(w.data, "f"), filepath.Join(w.dirs.Common("demo"), "f"))); err != nil {
		t.Fatal(err)
	}
	a.must("exec 7>>f")
	s := w.seal()
	if len(s.Writable) != 1 || s.Writable[0].Path != "f" || s.Writable[0].PIDs[0] != a.cmd.Process.Pid || !s.Pending {
		t.Errorf("%+v", s)
	}
	a.must("echo x >&7")
	w.unseal()
}

// TestWatch: what was open and could not be flagged is sealed once it is closed.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.actor(true)
	if err := errors.Join(os.MkdirAll(w.dirs.Common("demo"), 0o755), os.Link(filepath.Join(w.data, "f"), filepath.Join(w.dirs.Common("demo"), "f"))); err != nil {
		t.Fatal(err)
	}
	a.must("exec 7>>f")
	w.rec.SetSeal(w.seal())
	if err := w.st.Update(func(tx *state.Tx) error { return snapstate.Put(tx, w.rec) }); err != nil {
		t.Fatal(err)
	}
	if err := w.m.Resume(); err != nil {
		t.Fatal(err)
	}
	a.must("exec 7>&-")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var rec *snapstate.Record
		if err := w.st.View(func(tx *state.Tx) (err error) { rec, err = snapstate.Get(tx, "demo"); return err }); err != nil {
			t.Fatal(err)
		}
		s := rec.Seal(1)
		if !s.Pending && len(s.Writable) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is not sealed: %+v", s)
		}
	}
	a.mustNot("echo >f")
	w.unseal()
}
