// SPDX-License-Identifier: Apache-2.0

// Package machines holds what the programs device and vm have in common: the
// directory in which they keep their machines, one record and one lock each,
// and what they ask the kernel about processes.
package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// Dir is where a program keeps its machines, each in a directory of its name.
type Dir struct {
	Path string
	Kind string // what errors call a machine: "device"
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,39}$`)

// ValidName says whether a machine may have this name: up to 40 letters, digits, dots and dashes.
func ValidName(name string) bool { return validName.MatchString(name) }

// Of returns a path in the directory of a machine.
func (d Dir) Of(name string, more ...string) string {
	return filepath.Join(append([]string{d.Path, name}, more...)...)
}

// Lock keeps other programs off this name until the returned function is called.
func (d Dir) Lock(ctx context.Context, name string) (unlock func(), err error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("cannot use %q as the name of a %s", name, d.Kind)
	}
	if err := os.MkdirAll(d.Path, 0700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of %ss: %w", d.Kind, err)
	}
	unlock, err = LockFile(ctx, d.Of(name+".lock"))
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s %q: %w", d.Kind, name, err)
	}
	return unlock, nil
}

// LockFile locks a file, which it makes if need be, until the returned function is called.
func LockFile(ctx context.Context, path string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0600)
		if err != nil {
			return nil, err
		}
		got := make(chan error, 1)
		go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
		select {
		case err = <-got:
		case <-ctx.Done():
			// Nobody waits for the lock any more; when it comes it must go.
			go func() {
				<-got
				f.Close()
			}()
			return nil, ctx.Err()
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		// A stop that held the lock removes the file: a lock on the removed inode keeps nobody out.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return func() { f.Close() }, nil
		}
		f.Close()
	}
}

// Load reads the record of a machine into a struct; the error wraps os.ErrNotExist if there is no such machine.
func (d Dir) Load(name string, into any) error {
	if !ValidName(name) {
		return fmt.Errorf("cannot use %q as the name of a %s", name, d.Kind)
	}
	data, err := os.ReadFile(d.Of(name, "record.json"))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot find %s %q: %w", d.Kind, name, os.ErrNotExist)
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("cannot read %s %q: %w", d.Kind, name, err)
	}
	return nil
}

// Save writes the record of a machine, whose directory is there.
func (d Dir) Save(name string, record any) error {
	data, err := json.MarshalIndent(record, "", "\t")
	if err != nil {
		return err
	}
	path := d.Of(name, "record.json")
	if err := os.WriteFile(path+".new", append(data, '\n'), 0600); err != nil {
		return fmt.Errorf("cannot record %s %q: %w", d.Kind, name, err)
	}
	return os.Rename(path+".new", path)
}

// Names lists the machines that have a directory, running or not.
func (d Dir) Names() ([]string, error) {
	entries, err := os.ReadDir(d.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list %ss: %w", d.Kind, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && ValidName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
