// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"endured/dirs"
	"endured/osutil"
)

// Writer brings generated files to disk, below a root.
type Writer struct{ dirs dirs.Dirs }

// NewWriter returns a writer for the layout d.
func NewWriter(d dirs.Dirs) *Writer { return &Writer{dirs: d} }

// Changes are the names of units whose files differ from a set, each sorted.
type Changes struct {
	Services []string
	// Sockets close at a reload if their address is among what changed: they
	// belong inside the switch, and must be restarted.
	Sockets []string
	// Others are paths of files that are no units.
	Others []string
	// Stale are units of the snap that have a file and are not in the set. They
	// are left for Remove, once they are stopped.
	Stale []string
}

// Units returns the changed units, services first. If there are any, systemd
// has to reload.
func (c Changes) Units() []string { return append(append([]string(nil), c.Services...), c.Sockets...) }

// Diff tells what Write would change. It writes nothing.
func (w *Writer) Diff(set Set) (Changes, error) {
	var c Changes
	for _, f := range set.Files {
		same, err := w.same(f)
		if err != nil {
			return Changes{}, fmt.Errorf("cannot compare the units of %q: %w", set.Snap, err)
		}
		if !same {
			c.add(f)
		}
	}
	var err error
	if c.Stale, err = w.stale(set); err != nil {
		return Changes{}, fmt.Errorf("cannot compare the units of %q: %w", set.Snap, err)
	}
	return c, nil
}

func (c *Changes) add(f File) {
	name := filepath.Base(f.Path)
	switch filepath.Ext(name) {
	case ".service":
		c.Services = append(c.Services, name)
	case ".socket":
		c.Sockets = append(c.Sockets, name)
	default:
		c.Others = append(c.Others, f.Path)
	}
}

// Write makes the files of a set what they should be. A file that is right
// already is not touched; one that is not is replaced by renaming over it,
// never removed first, since a reload that misses the file drops a start that
// waits. All content is on stable storage before the first name changes, and
// all names are when Write returns. What is stale is reported and left alone.
//
// After an error some files may be new; writing the previous revision's set
// takes that back.
func (w *Writer) Write(ctx context.Context, set Set) (Changes, error) {
	changed, err := w.WriteFiles(ctx, set.Files)
	if err != nil {
		return Changes{}, err
	}
	var c Changes
	for _, f := range changed {
		c.add(f)
	}
	c.Stale, err = w.stale(set)
	if err != nil {
		return c, fmt.Errorf("cannot list the units of %q: %w", set.Snap, err)
	}
	return c, nil
}

// WriteFiles is Write for any files and links, such as a mount unit or a pin.
// It returns those that were not as wanted, in the given order. Missing
// directories are made.
func (w *Writer) WriteFiles(ctx context.Context, files []File) (changed []File, err error) {
	var temps []string
	defer func() {
		for _, t := range temps {
			os.Remove(t) // what was renamed is no longer there
		}
	}()
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cannot write %s: %w", f.Path, err)
		}
		same, err := w.same(f)
		if err == nil && !same {
			var t string
			t, err = w.writeTemp(f)
			temps = append(temps, t)
			changed = append(changed, f)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot write %s: %w", f.Path, err)
		}
	}
	for n, f := range changed {
		if err := os.Rename(temps[n], w.dirs.Under(f.Path)); err != nil {
			return changed, errors.Join(fmt.Errorf("cannot write %s: %w", f.Path, err), w.syncDirs(changed))
		}
	}
	return changed, w.syncDirs(changed)
}

// same tells whether a file is as wanted.
func (w *Writer) same(f File) (bool, error) {
	path := w.dirs.Under(f.Path)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if f.Link != "" {
		if fi.Mode()&fs.ModeSymlink == 0 {
			return false, nil
		}
		have, err := os.Readlink(path)
		return have == f.Link, err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm() != f.Mode.Perm() || fi.Size() != int64(len(f.Data)) {
		return false, nil
	}
	have, err := os.ReadFile(path)
	return bytes.Equal(have, f.Data), err
}

// writeTemp writes the file under another name beside its own, durably.
func (w *Writer) writeTemp(f File) (name string, err error) {
	path := w.dirs.Under(f.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	// One fixed name: what a killed daemon left is written over. One change at
	// a time has a snap's files in hand.
	name = filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".snapd~")
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if f.Link != "" {
		return name, os.Symlink(f.Link, name)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, f.Mode.Perm())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(f.Data); err != nil {
		return name, err
	}
	if err := file.Chmod(f.Mode.Perm()); err != nil {
		return name, err
	}
	if w.volatile(f.Path) {
		return name, nil
	}
	return name, file.Sync()
}

// volatile tells whether a path does not outlive the boot anyway.
func (w *Writer) volatile(path string) bool { return strings.HasPrefix(path, "/run/") }

// syncDirs makes the names of files durable, one fsync for each directory.
func (w *Writer) syncDirs(files []File) error {
	done := map[string]bool{}
	for _, f := range files {
		dir := filepath.Dir(f.Path)
		if done[dir] || w.volatile(f.Path) {
			continue
		}
		done[dir] = true
		if err := osutil.SyncDirEntry(w.dirs.Under(f.Path)); err != nil {
			return err
		}
	}
	return nil
}

// stale returns the snap's units on disk that are not in the set, sorted.
func (w *Writer) stale(set Set) ([]string, error) {
	wanted := map[string]bool{}
	for _, f := range set.Files {
		wanted[filepath.Base(f.Path)] = true
	}
	have, err := w.unitsOnDisk(set.Snap)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range have {
		if !wanted[name] {
			out = append(out, name)
		}
	}
	return out, nil
}

func (w *Writer) unitsOnDisk(snapName string) ([]string, error) {
	entries, err := os.ReadDir(w.dirs.Units())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || !strings.HasPrefix(name, "snap."+snapName+".") {
			continue
		}
		switch filepath.Ext(name) {
		case ".service", ".socket", ".timer":
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out, nil
}

// Remove removes unit files by name, with their pins. They must be stopped and
// disabled, and systemd has to reload afterwards. It returns the names of those
// that were there.
func (w *Writer) Remove(ctx context.Context, units []string) (removed []string, err error) {
	var files []File
	for _, name := range units {
		if err := ctx.Err(); err != nil {
			return removed, fmt.Errorf("cannot remove unit %s: %w", name, err)
		}
		if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
			return removed, fmt.Errorf("cannot remove unit %q: not a file name", name)
		}
		f := unitFile(name, nil)
		err := os.Remove(w.dirs.Under(f.Path))
		if err == nil {
			removed = append(removed, name)
			files = append(files, f)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return removed, fmt.Errorf("cannot remove unit %s: %w", name, err)
		}
		if _, err := w.RemovePin(name); err != nil {
			return removed, err
		}
	}
	return removed, w.syncDirs(files)
}

// RemovePin removes the pin of a unit and reports whether there was one, so
// that systemd has to reload.
func (w *Writer) RemovePin(unit string) (bool, error) {
	path := w.dirs.Under(PinPath(unit))
	err := os.Remove(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("cannot remove the pin of %s: %w", unit, err)
	}
	// Other drop-ins may be there: then the directory stays.
	if rmErr := os.Remove(filepath.Dir(path)); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) && !errors.Is(rmErr, unix.ENOTEMPTY) {
		return err == nil, fmt.Errorf("cannot remove the pin of %s: %w", unit, rmErr)
	}
	return err == nil, nil
}

// RemoveSnap removes every file that Write and WriteLaunchers made for a snap,
// but for mount units. It returns the units that were there.
func (w *Writer) RemoveSnap(ctx context.Context, name string) (units []string, err error) {
	have, err := w.unitsOnDisk(name)
	if err != nil {
		return nil, fmt.Errorf("cannot list the units of %q: %w", name, err)
	}
	if units, err = w.Remove(ctx, have); err != nil {
		return units, err
	}
	conf := tmpfiles(name)
	switch err := os.Remove(w.dirs.Under(conf.Path)); {
	case err == nil:
		if err := w.syncDirs([]File{conf}); err != nil {
			return units, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return units, fmt.Errorf("cannot remove %s: %w", conf.Path, err)
	}
	_, err = w.WriteLaunchers(ctx, name, nil)
	return units, err
}

// WriteLaunchers makes the snap's links in /snap/bin exactly those given, and
// reports whether anything changed. A name in /snap/bin belongs to the snap if
// it is the snap's, or begins with it and a dot.
func (w *Writer) WriteLaunchers(ctx context.Context, snapName string, links []File) (changed bool, err error) {
	wrote, err := w.WriteFiles(ctx, links)
	if err != nil {
		return len(wrote) > 0, err
	}
	wanted := map[string]bool{}
	for _, l := range links {
		wanted[filepath.Base(l.Path)] = true
	}
	entries, err := os.ReadDir(w.dirs.Bin())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return len(wrote) > 0, fmt.Errorf("cannot list launchers: %w", err)
	}
	var gone []File
	for _, e := range entries {
		name := e.Name()
		mine := name == snapName || strings.HasPrefix(name, snapName+".")
		if !mine || wanted[name] || e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		path := filepath.Join(w.dirs.Bin(), name)
		if err := os.Remove(path); err != nil {
			return true, fmt.Errorf("cannot remove launcher %s: %w", path, err)
		}
		gone = append(gone, File{Path: filepath.Join(system().Bin(), name)})
	}
	return len(wrote)+len(gone) > 0, w.syncDirs(gone)
}
