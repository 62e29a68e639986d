// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"endured/client"
	"endured/snap"
	"endured/snap/userdata"
	"endured/wrappers"
)

func newRunCommand(a *app) *cobra.Command {
	shell, inside := false, ""
	c := &cobra.Command{
		Use:   "run [--shell] SNAP[.APP] [ARG...]",
		Short: "Run a command of a snap",
		Long: long(`
Run a command of a snap in its environment, from its current revision. It stays
on that revision for as long as it runs, whatever is refreshed meanwhile.
Services are not run this way: see 'snap start'.

With --shell a shell is run in the command's place.`) + "\nOtherwise the exit status is that of the command.",
		Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			if inside != "" {
				return a.runInside(inside, args)
			}
			if shell {
				return a.start(c.Context(), args[0], args[1:], a.shellOf)
			}
			return a.runApp(c.Context(), args[0], args[1:])
		},
	}
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&inside, insideFlag, "", "Go on inside a user namespace")
	_ = c.Flags().MarkHidden(insideFlag)
	c.Flags().BoolVar(&shell, "shell", false, "Run a shell in the environment of the command")
	return c
}

// runApp replaces this process by an app. It returns only if that fails.
func (a *app) runApp(ctx context.Context, snapApp string, args []string) error {
	return a.start(ctx, snapApp, args, commandOf)
}

// start finds out what an app is and replaces this process by what command
// makes of it.
func (a *app) start(ctx context.Context, snapApp string, args []string, command func(*snap.App, string, map[string]string) ([]string, error)) error {
	snapName, appName, named := strings.Cut(snapApp, ".")
	if !named {
		appName = snapName
	}
	if err := snap.CheckName(snapName); err != nil {
		return fmt.Errorf("cannot run %q: %w", snapApp, err)
	}
	appInfo, sandbox, err := a.enter(ctx, snapName, appName)
	if err != nil {
		return err
	}
	home, err := a.realHome()
	if err != nil {
		return fmt.Errorf("cannot run %q: %w", snapApp, err)
	}
	err = userdata.User{Home: home, UID: a.uid}.Make(ctx, snapName, appInfo.Snap.Revision)
	var copying *userdata.CopyError
	if errors.As(err, &copying) {
		// an app that finds nothing of the user's would begin anew
		return fmt.Errorf("cannot run %q: %w", snapApp, err)
	}
	if err != nil {
		fmt.Fprintf(a.err, "warning: %v\n", err)
	}
	env := a.environment(appInfo, home)
	argv, err := command(appInfo, a.dirs.Mount(snapName, appInfo.Snap.Revision), env)
	if err != nil {
		return fmt.Errorf("cannot run %q: %w", snapApp, err)
	}
	argv = append(argv, args...)
	id := identity{Snap: snapName, App: appName, Revision: appInfo.Snap.Revision.String(), Classic: appInfo.Snap.Confinement == "classic"}
	if prefix := a.contentPrefix(id, sandbox); prefix != nil {
		argv = append(prefix, argv...)
	} else if err := a.enclose(id, sandbox, env); err != nil {
		return fmt.Errorf("cannot run %q: %w", snapApp, err)
	}
	return a.become(snapApp, argv, env)
}

// become executes a program in the place of this one.
func (a *app) become(what string, argv []string, env map[string]string) error {
	var environ []string
	for k, v := range env {
		environ = append(environ, k+"="+v)
	}
	if err := a.exec(argv[0], argv, environ); err != nil {
		return fmt.Errorf("cannot run %q: %s: %w", what, argv[0], err)
	}
	return nil
}

// realHome is the user's home directory, whatever $HOME says.
func (a *app) realHome() (string, error) {
	if a.home != "" {
		return a.home, nil
	}
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	return me.HomeDir, nil
}

// enter has this process tracked as an app's and reads what the revision that
// it is tracked for says of the app. That one stays while this process lives.
func (a *app) enter(ctx context.Context, snapName, appName string) (*snap.App, *client.Sandbox, error) {
	rev, sandbox, trackErr := a.track(ctx, snapName, appName)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if trackErr != nil {
		var err error
		if rev, err = a.current(snapName); err != nil {
			return nil, nil, err
		}
	}
	info, err := a.read(snapName, rev)
	if err != nil {
		return nil, nil, err
	}
	appInfo := info.Apps[appName]
	switch {
	case appInfo == nil:
		return nil, nil, fmt.Errorf("cannot find app %q in %q", appName, snapName)
	case appInfo.IsService():
		return nil, nil, fmt.Errorf("cannot run %s.%s: it is a service, see 'snap start'", snapName, appName)
	}
	if trackErr != nil {
		fmt.Fprintf(a.err, "warning: snapd does not know about this process, its revision may be removed while it runs: %v\n", trackErr)
		sandbox, err = a.plainSandbox(appInfo)
	}
	return appInfo, sandbox, err
}

// track asks the daemon which revision to run. It may have to wait for a
// switch, and says so when that takes long.
func (a *app) track(ctx context.Context, snapName, appName string) (snap.Revision, *client.Sandbox, error) {
	type answer struct {
		client.Tracked
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		tracked, err := a.client.Track(ctx, snapName, appName)
		answered <- answer{tracked, err}
	}()
	var got answer
	select {
	case got = <-answered:
	case <-time.After(a.patience):
		fmt.Fprintf(a.err, "waiting for snapd: snap %q may be being refreshed\n", snapName)
		got = <-answered
	}
	if got.err != nil {
		return 0, nil, got.err
	}
	rev, err := snap.ParseRevision(got.Revision)
	return rev, got.Sandbox, err
}

// current tells which revision is current where the daemon cannot be asked.
func (a *app) current(snapName string) (snap.Revision, error) {
	link, err := os.Readlink(a.dirs.Current(snapName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("cannot find snap %q: it is not installed, or disabled", snapName)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot tell which revision of snap %q is current: %w", snapName, err)
	}
	rev, err := snap.ParseRevision(filepath.Base(link))
	if err != nil {
		return 0, fmt.Errorf("cannot tell which revision of snap %q is current: %w", snapName, err)
	}
	return rev, nil
}

// read describes a revision of a snap.
func (a *app) read(snapName string, rev snap.Revision) (*snap.Info, error) {
	raw, err := os.ReadFile(filepath.Join(a.dirs.Mount(snapName, rev), "meta/snap.yaml"))
	if err != nil {
		return nil, fmt.Errorf("cannot read snap %q: %w", snapName, err)
	}
	info, err := snap.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("cannot read snap %q: %w", snapName, err)
	}
	info.Revision = rev
	return info, nil
}

// environment is what the app finds: what this process has, under what the
// snap sets.
func (a *app) environment(app *snap.App, home string) map[string]string {
	env := map[string]string{}
	for _, kv := range a.environ() {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	who := wrappers.User{UID: a.uid, EUID: os.Geteuid(), Home: home, Environ: a.environ()}
	for _, v := range wrappers.Env(app.Snap, app, who, wrappers.Options{Dirs: a.dirs}) {
		env[v.Name] = v.Value
	}
	makeRuntimeDir(env["XDG_RUNTIME_DIR"], a.uid)
	return env
}

// makeRuntimeDir makes the snap's part of the user's runtime directory, if
// there is one: a login makes it, and ends it.
func makeRuntimeDir(dir string, uid int) {
	if filepath.Dir(dir) == "/run/user/"+strconv.Itoa(uid) {
		_ = os.Mkdir(dir, 0o700) // there, or without a login session: the app will see
	}
}

// commandOf is the command chain, the program and its arguments of an app.
func commandOf(app *snap.App, root string, env map[string]string) ([]string, error) {
	words := strings.Fields(app.Command)
	if len(words) == 0 {
		return nil, errors.New("it has no command")
	}
	var argv []string
	for _, name := range append(append([]string(nil), app.CommandChain...), words[0]) {
		path := filepath.Join(root, name)
		if !strings.HasPrefix(path, root+"/") {
			return nil, fmt.Errorf("its command %q is not inside the snap", name)
		}
		argv = append(argv, path)
	}
	for _, w := range words[1:] {
		w = os.Expand(w, func(name string) string { return env[name] })
		if w != "" {
			argv = append(argv, w)
		}
	}
	return argv, nil
}

// shellOf is the user's shell.
func (a *app) shellOf(*snap.App, string, map[string]string) ([]string, error) {
	if sh := a.getenv("SHELL"); filepath.IsAbs(sh) {
		return []string{sh}, nil
	}
	return []string{"/bin/sh"}, nil
}
