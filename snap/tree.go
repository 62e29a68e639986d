// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tree is the files of a snap, in an image or in a directory.
type tree interface {
	// lstat returns the mode of the file at path, relative to the snap and
	// without symbolic links in its directories, and a link's target. A file
	// that is not there is fs.ErrNotExist.
	lstat(path string) (fs.FileMode, string, error)
	// names returns the names in a directory, in any order.
	names(dir string) ([]string, error)
}

// dirTree is a snap unpacked or mounted in a directory.
type dirTree string

func (d dirTree) lstat(p string) (fs.FileMode, string, error) {
	name := filepath.Join(string(d), p)
	st, err := os.Lstat(name)
	if err != nil {
		return 0, "", err
	}
	if st.Mode()&fs.ModeSymlink == 0 {
		return st.Mode(), "", nil
	}
	target, err := os.Readlink(name)
	return st.Mode(), target, err
}

func (d dirTree) names(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(string(d), dir))
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

// TreeError lists what is wrong with the files of a snap, by the key of
// snap.yaml that names them.
type TreeError struct{ Problems []Problem }

func (e *TreeError) Error() string {
	return listProblems("cannot use the files of the snap", e.Problems)
}

// checkCommands checks that what the commands of i name is there and executable.
func checkCommands(i *Info, t tree) error {
	e := &TreeError{}
	check := func(key, p string) {
		if p == "" || len(e.Problems) >= maxProblems {
			return
		}
		if why := notExecutable(t, p); why != "" {
			e.Problems = append(e.Problems, Problem{Key: key, Message: quote(p) + " " + why})
		}
	}
	for _, a := range i.SortedApps() {
		key := join("apps", a.Name)
		check(join(key, "command"), firstWord(a.Command))
		check(join(key, "stop-command"), firstWord(a.StopCommand))
		check(join(key, "reload-command"), firstWord(a.ReloadCommand))
		check(join(key, "post-stop-command"), firstWord(a.PostStopCommand))
		for n, p := range a.CommandChain {
			check(fmt.Sprintf("%s[%d]", join(key, "command-chain"), n), p)
		}
	}
	for _, h := range i.SortedHooks() {
		key := join("hooks", h.Name)
		check(key, h.Command())
		for n, p := range h.CommandChain {
			check(fmt.Sprintf("%s[%d]", join(key, "command-chain"), n), p)
		}
	}
	if len(e.Problems) > 0 {
		return e
	}
	return nil
}

// noDevices refuses device nodes, which no mount of a snap would let work.
func noDevices(list []Special) error {
	e := &TreeError{}
	for _, s := range list {
		if s.Kind == "device" && len(e.Problems) < maxProblems {
			e.Problems = append(e.Problems, Problem{Message: quote(s.Path) + " is a device node, which a snap cannot bring; remove it"})
		}
	}
	if len(e.Problems) > 0 {
		return e
	}
	return nil
}

// SpecialsIn is Specials of a snap that is unpacked in a directory.
func SpecialsIn(dir string) ([]Special, error) {
	var out []Special
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		kind := ""
		switch mode := st.Mode(); {
		case mode&fs.ModeDevice != 0:
			kind = "device"
		case mode.IsRegular() && mode&fs.ModeSetuid != 0:
			kind = "setuid"
		case mode.IsRegular() && mode&fs.ModeSetgid != 0:
			kind = "setgid"
		default:
			return nil
		}
		name, err = filepath.Rel(dir, name)
		out = append(out, Special{Path: name, Kind: kind})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot look through %s: %w", dir, err)
	}
	return out, nil
}

// Powerless says that files which are setuid or setgid are not so once
// installed, "" if there are none.
func Powerless(list []Special) string {
	var names []string
	for _, s := range list {
		if s.Kind != "device" {
			names = append(names, quote(s.Path)+" is "+s.Kind)
		}
	}
	const most = 3
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more are", more))
	}
	if len(names) == 0 {
		return ""
	}
	return strings.Join(names, ", ") + "; that has no effect: snaps are mounted nosuid"
}

// notExecutable tells why the file at p cannot be run, "" if it can. A link
// that leaves the snap leads to the host, which only the host can judge.
func notExecutable(t tree, p string) string {
	mode, err := stat(t, p)
	switch {
	case errors.Is(err, errOutside):
		return ""
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist in the snap"
	case err != nil:
		return "cannot be found in the snap: " + err.Error()
	case !mode.IsRegular():
		return "is not a regular file"
	case mode.Perm()&0o111 == 0:
		return "is not executable"
	}
	return ""
}

var errOutside = errors.New("leads out of the snap")

// stat follows symbolic links, up to 40 as the kernel does.
func stat(t tree, p string) (fs.FileMode, error) {
	rest := strings.Split(path.Clean(p), "/")
	at, mode := ".", fs.ModeDir
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch {
		case !mode.IsDir():
			return 0, fs.ErrNotExist
		case name == "..":
			if at == "." {
				return 0, errOutside
			}
			at = path.Dir(at)
			continue
		case name == "" || name == ".":
			continue
		}
		m, target, err := t.lstat(path.Join(at, name))
		if err != nil {
			return 0, err
		}
		if m&fs.ModeSymlink == 0 {
			at, mode = path.Join(at, name), m
			continue
		}
		if links++; links > 40 {
			return 0, errors.New("too many symbolic links")
		}
		if strings.HasPrefix(target, "/") {
			return 0, errOutside
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return mode, nil
}

// listMeta returns the files of meta/ and meta/hooks/, sorted. Of meta/ only
// snap.yaml counts: what else lies there is for stores and desktops.
func listMeta(t tree) ([]string, error) {
	out := []string{yamlPath}
	mode, _, err := t.lstat(hooksDir)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if !mode.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", hooksDir)
	}
	names, err := t.names(hooksDir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		out = append(out, hooksDir+"/"+n)
	}
	slices.Sort(out)
	return out, nil
}

func hookNames(meta []string) []string {
	var out []string
	for _, m := range meta {
		if n, ok := strings.CutPrefix(m, hooksDir+"/"); ok {
			out = append(out, n)
		}
	}
	return out
}
