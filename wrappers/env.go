// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"endured/snap"
	"endured/systemd"
)

// servicePath is $PATH of a service before its author adds to it.
const servicePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/usr/local/games"

// libraryPath is $SNAP_LIBRARY_PATH; nothing puts files there yet.
const libraryPath = "/var/lib/snapd/lib/gl:/var/lib/snapd/lib/gl32:/var/lib/snapd/void"

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// User is on whose behalf a program of a snap runs.
type User struct {
	UID, EUID int
	Home      string // the real home directory
	// Environ is the environment that the program inherits, "NAME=VALUE" each.
	// It is what references in environment: see besides the snap's own
	// variables; only variables that differ from it need to be set, but all of
	// the snap's are returned.
	Environ []string
}

// ServiceEnv returns the environment that the unit of a service sets, in
// order, each name once: the SNAP_* variables, HOME, PATH and
// XDG_RUNTIME_DIR, then environment: of the snap and of the app with
// references expanded. A reference to what is set nowhere here is empty.
func ServiceEnv(app *snap.App, o Options) ([]snap.EnvVar, error) {
	env := Env(app.Snap, app, User{Home: "/root"}, o)
	for _, v := range env {
		if !envName.MatchString(v.Name) {
			return nil, fmt.Errorf("%q is not the name of an environment variable", v.Name)
		}
		if _, err := systemd.QuoteEnv(v.Name, v.Value); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// Env returns what a program of a snap finds in its environment besides what
// it inherits: see ServiceEnv. A later entry that repeats a name has replaced
// the earlier one in place. app may be nil. A classic snap has the user's own
// HOME, and keeps PATH and XDG_RUNTIME_DIR of u.Environ.
func Env(info *snap.Info, app *snap.App, u User, o Options) []snap.EnvVar {
	e := &environment{inherited: map[string]string{}, at: map[string]int{}}
	for _, kv := range u.Environ {
		name, value, _ := strings.Cut(kv, "=")
		e.inherited[name] = value
	}
	name, rev := info.Name, info.Revision
	userData := filepath.Join(u.Home, "snap", name)
	for _, v := range []snap.EnvVar{
		{Name: "SNAP", Value: system().Mount(name, rev)},
		{Name: "SNAP_NAME", Value: name},
		{Name: "SNAP_INSTANCE_NAME", Value: name},
		{Name: "SNAP_INSTANCE_KEY", Value: ""},
		{Name: "SNAP_REVISION", Value: rev.String()},
		{Name: "SNAP_VERSION", Value: info.Version},
		{Name: "SNAP_ARCH", Value: o.arch()},
		{Name: "SNAP_LIBRARY_PATH", Value: libraryPath},
		{Name: "SNAP_DATA", Value: system().Data(name, rev)},
		{Name: "SNAP_COMMON", Value: system().Common(name)},
		{Name: "SNAP_USER_DATA", Value: filepath.Join(userData, rev.String())},
		{Name: "SNAP_USER_COMMON", Value: filepath.Join(userData, "common")},
		{Name: "SNAP_REAL_HOME", Value: u.Home},
		{Name: "SNAP_UID", Value: strconv.Itoa(u.UID)},
		{Name: "SNAP_EUID", Value: strconv.Itoa(u.EUID)},
		{Name: "SNAP_REEXEC", Value: ""},
	} {
		e.set(v.Name, v.Value)
	}
	if info.Confinement == "classic" {
		e.setDefault("HOME", u.Home)
		e.setDefault("PATH", servicePath)
	} else {
		e.set("HOME", filepath.Join(userData, rev.String()))
		e.set("PATH", servicePath)
		e.set("XDG_RUNTIME_DIR", fmt.Sprintf("/run/user/%d/snap.%s", u.UID, name))
	}
	for _, v := range info.Environment {
		e.set(v.Name, os.Expand(v.Value, e.lookup))
	}
	if app != nil {
		for _, v := range app.Environment {
			e.set(v.Name, os.Expand(v.Value, e.lookup))
		}
	}
	return e.vars
}

// environment is an ordered set of variables over an inherited one.
type environment struct {
	vars      []snap.EnvVar
	at        map[string]int
	inherited map[string]string
}

func (e *environment) set(name, value string) {
	if n, ok := e.at[name]; ok {
		e.vars[n].Value = value
		return
	}
	e.at[name] = len(e.vars)
	e.vars = append(e.vars, snap.EnvVar{Name: name, Value: value})
}

// setDefault sets a variable that is not inherited.
func (e *environment) setDefault(name, value string) {
	if _, ok := e.inherited[name]; !ok {
		e.set(name, value)
	}
}

func (e *environment) lookup(name string) string {
	if n, ok := e.at[name]; ok {
		return e.vars[n].Value
	}
	return e.inherited[name]
}

func envMap(env []snap.EnvVar) map[string]string {
	m := make(map[string]string, len(env))
	for _, v := range env {
		m[v.Name] = v.Value
	}
	return m
}
