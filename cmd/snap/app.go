// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"endured/client"
	"endured/dirs"
	"endured/interfaces/mount"
)

// app is the world of the commands: a test has one of its own.
type app struct {
	client  *client.Client
	dirs    dirs.Dirs
	out     io.Writer
	err     io.Writer
	getenv  func(string) string
	environ func() []string
	uid     int
	// home is the user's home directory; "" is what the system says.
	home string
	// patience is after which time a command that waits says so.
	patience time.Duration
	// zone is what times are shown in.
	zone *time.Location
	// terminal tells that err is one: progress is drawn there, else told in lines.
	terminal bool
	// colour tells that out is a terminal that may be coloured.
	colour bool
	// width is the terminal's, in columns.
	width func() int
	// interrupts delivers Ctrl-C until stop is called.
	interrupts func() (c <-chan os.Signal, stop func())
	// enterSandbox changes the calling thread, see the function of that name.
	enterSandbox func(parts []mount.Part, capabilities []string, noNewPrivileges bool) (moved bool, left []error, err error)
	// exec replaces the process.
	exec func(path string, argv, env []string) error
}

// globalRoot is the variable that moves snapd's whole tree elsewhere.
const globalRoot = "SNAPPY_GLOBAL_ROOT"

func newApp() *app {
	d := dirs.New(os.Getenv(globalRoot))
	dumb := os.Getenv("TERM") == "dumb"
	isTerminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	var out io.Writer = os.Stdout
	if isTerminal(os.Stdout) {
		out = screen{os.Stdout}
	}
	return &app{
		client: client.New(client.Config{
			Socket:      d.Socket(),
			UserAgent:   "endured/" + version + " snap",
			Interactive: isTerminal(os.Stdin),
		}),
		dirs: d, out: out, err: os.Stderr,
		getenv: os.Getenv, environ: os.Environ, uid: os.Getuid(), zone: time.Local,
		patience: time.Second,
		terminal: isTerminal(os.Stderr) && !dumb,
		colour:   isTerminal(os.Stdout) && !dumb && os.Getenv("NO_COLOR") == "",
		width: func() int {
			if w, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && w > 0 {
				return w
			}
			return 80
		},
		interrupts: func() (<-chan os.Signal, func()) {
			c := make(chan os.Signal, 2)
			signal.Notify(c, os.Interrupt)
			return c, func() { signal.Stop(c) }
		},
		enterSandbox: enterSandbox,
		exec:         syscall.Exec,
	}
}

// execute runs one command line and returns the exit status.
func (a *app) execute(ctx context.Context, args []string) int {
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		a.tellWarnings()
	}
	return a.exit(err)
}
