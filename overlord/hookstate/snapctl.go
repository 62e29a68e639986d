// SPDX-License-Identifier: Apache-2.0

package hookstate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"endured/overlord/configstate"
	"endured/overlord/lifecycle"
	"endured/overlord/snapstate"
	"endured/overlord/state"
	"endured/snap"
)

// Service is a service as snapctl shows it.
type Service struct {
	App             string
	Enabled, Active bool
	Notes           string
}

// Services are the services of snaps, for those outside of hooks.
type Services interface {
	// List lists the services of a snap, by name.
	List(ctx context.Context, snapName string) ([]Service, error)
	// Control starts, stops or restarts services and waits until that is done.
	Control(ctx context.Context, c *snapstate.Control) error
}

// Answer is what a call of snapctl leads to.
type Answer struct {
	Stdout, Stderr string
	ExitCode       int
}

// forEverybody are the commands that need no uid 0: they change nothing, and
// tell nothing of processes.
var forEverybody = []string{"get", "is-connected", "services"}

// command is one call of snapctl.
type command struct {
	m           *Manager
	services    Services
	connections Connections
	caller      *Caller
	flags       *pflag.FlagSet
	out         bytes.Buffer
}

// Snapctl carries out one call of snapctl. An error says why it could not be
// carried out; an Answer may have an exit code that tells something.
func (m *Manager) Snapctl(ctx context.Context, who *Caller, args []string, s Services, conns Connections) (*Answer, error) {
	if len(args) == 0 {
		return nil, errors.New("cannot run snapctl without a command; there is " + strings.Join(commandNames(), ", "))
	}
	name := args[0]
	if !slices.Contains(commandNames(), name) {
		return nil, fmt.Errorf("cannot run snapctl %q: there is %s", name, strings.Join(commandNames(), ", "))
	}
	if who.UID != 0 && !slices.Contains(forEverybody, name) {
		return nil, fmt.Errorf("cannot use %q with uid %d: only root may", name, who.UID)
	}
	c := &command{m: m, services: s, connections: conns, caller: who, flags: pflag.NewFlagSet(name, pflag.ContinueOnError)}
	c.flags.SetOutput(io.Discard)
	c.flags.SortFlags = false
	code, err := c.run(ctx, name, args[1:])
	if err != nil {
		return nil, err
	}
	return &Answer{Stdout: c.out.String(), ExitCode: code}, nil
}

func commandNames() []string {
	return []string{"get", "is-connected", "lifecycle", "restart", "services", "set", "set-health", "start", "stop", "unset"}
}

func (c *command) run(ctx context.Context, name string, args []string) (int, error) {
	switch name {
	case "get":
		return 0, c.get(args)
	case "set":
		return 0, c.set(args)
	case "unset":
		return 0, c.unset(args)
	case "services":
		return 0, c.list(ctx, args)
	case "start", "stop", "restart":
		return 0, c.control(ctx, name, args)
	case "is-connected":
		return c.isConnected(args)
	case "set-health":
		return 0, c.setHealth(args)
	}
	return 0, c.lifecycle(ctx, args)
}

// parse reads the flags and tells whether there are enough words besides.
func (c *command) parse(args []string, least, most int, want string) ([]string, error) {
	if err := c.flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, fmt.Errorf("usage: snapctl %s %s\n%s", c.flags.Name(), want, c.flags.FlagUsages())
		}
		return nil, fmt.Errorf("cannot run snapctl %s: %w", c.flags.Name(), err)
	}
	if n := c.flags.NArg(); n < least || most >= 0 && n > most {
		return nil, fmt.Errorf("cannot run snapctl %s: want %s", c.flags.Name(), want)
	}
	return c.flags.Args(), nil
}

func (c *command) get(args []string) error {
	document := c.flags.BoolP("document", "d", false, "print a JSON document")
	typed := c.flags.BoolP("typed", "t", false, "print values as JSON: strings with quotes")
	keys, err := c.parse(args, 1, -1, "<key>...")
	if err != nil {
		return err
	}
	if *document && *typed {
		return errors.New("cannot run snapctl get: -d and -t do not go together")
	}
	var o configstate.Options
	err = c.m.State.View(func(tx *state.Tx) (err error) {
		o, err = options(tx, c.caller.Snap, c.caller.Task)
		return err
	})
	if err != nil {
		return err
	}
	found := map[string]any{}
	for _, k := range keys {
		if err := configstate.CheckOption(k); err != nil {
			return err
		}
		if v, ok := o.Lookup(k); ok {
			found[k] = v
		}
	}
	if len(keys) > 1 || *document {
		return c.json(found, "\t")
	}
	v, there := found[keys[0]]
	if text, ok := v.(string); ok && !*typed {
		fmt.Fprintln(&c.out, text)
		return nil
	}
	if !there && !*typed {
		fmt.Fprintln(&c.out)
		return nil
	}
	indent := ""
	if _, ok := v.(map[string]any); ok {
		indent = "\t"
	}
	return c.json(v, indent)
}

func (c *command) json(v any, indent string) error {
	e := json.NewEncoder(&c.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(v)
}

func (c *command) set(args []string) error {
	typed := c.flags.BoolP("typed", "t", false, "refuse a value that is not JSON")
	asString := c.flags.BoolP("string", "s", false, "take every value as a string")
	words, err := c.parse(args, 1, -1, "<key>=<value>...")
	if err != nil {
		return err
	}
	if *typed && *asString {
		return errors.New("cannot run snapctl set: -t and -s do not go together")
	}
	values := map[string]any{}
	for _, w := range words {
		key, text, ok := strings.Cut(w, "=")
		if bare, gone := strings.CutSuffix(w, "!"); !ok && gone {
			values[bare] = nil
			continue
		}
		if !ok {
			return fmt.Errorf("cannot run snapctl set: want <key>=<value>, got %q", w)
		}
		if values[key], err = value(text, *typed, *asString); err != nil {
			return fmt.Errorf("cannot set %q: %w", key, err)
		}
	}
	return c.change(values)
}

// value reads JSON; what is none is a string.
func value(text string, typed, asString bool) (any, error) {
	if asString {
		return text, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	if err == nil && d.More() {
		err = errors.New("more follows")
	}
	switch {
	case err == nil:
		return v, nil
	case typed:
		return nil, fmt.Errorf("the value is not JSON: %w", err)
	}
	return text, nil
}

func (c *command) unset(args []string) error {
	keys, err := c.parse(args, 1, -1, "<key>...")
	if err != nil {
		return err
	}
	values := map[string]any{}
	for _, k := range keys {
		values[k] = nil
	}
	return c.change(values)
}

func (c *command) change(values map[string]any) error {
	for k := range values {
		if err := configstate.CheckOption(k); err != nil {
			return err
		}
	}
	return c.m.change(c.caller.Snap, c.caller.Task, func(w *wishes) error {
		w.set(values)
		return nil
	})
}

func (c *command) list(ctx context.Context, args []string) error {
	names, err := c.parse(args, 0, -1, "[<snap>.<service>...]")
	if err != nil {
		return err
	}
	apps, err := c.apps(names)
	if err != nil {
		return err
	}
	all, err := c.services.List(ctx, c.caller.Snap)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(&c.out, 5, 3, 2, ' ', 0)
	fmt.Fprintln(w, "Service\tStartup\tCurrent\tNotes")
	for _, s := range all {
		if len(apps) > 0 && !slices.Contains(apps, s.App) {
			continue
		}
		startup, current, notes := "disabled", "inactive", s.Notes
		if s.Enabled {
			startup = "enabled"
		}
		if s.Active {
			current = "active"
		}
		if notes == "" {
			notes = "-"
		}
		fmt.Fprintf(w, "%s.%s\t%s\t%s\t%s\n", c.caller.Snap, s.App, startup, current, notes)
	}
	return w.Flush()
}

// info describes the revision that the caller's words are about.
func (c *command) info() (*snap.Info, error) {
	if c.caller.Task == "" {
		return c.m.Snaps.Serving(c.caller.Snap)
	}
	s, err := c.setup()
	if err != nil {
		return nil, err
	}
	from, to, _, err := c.m.Snaps.Sides(s)
	if to != nil {
		return to, err
	}
	return from, err
}

func (c *command) setup() (s *snapstate.Setup, err error) {
	err = c.m.State.View(func(tx *state.Tx) (err error) {
		s, err = snapstate.TaskSetup(tx, c.caller.Task)
		return err
	})
	return s, err
}

// apps reads "<snap>" and "<snap>.<service>"; none, or the snap, are all.
func (c *command) apps(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		name, app, one := strings.Cut(n, ".")
		if name != c.caller.Snap {
			return nil, fmt.Errorf("cannot use %q: it is not a service of snap %q", n, c.caller.Snap)
		}
		if !one {
			return nil, nil
		}
		info, err := c.info()
		if err != nil {
			return nil, err
		}
		if a := info.Apps[app]; a == nil || !a.IsService() {
			return nil, fmt.Errorf("unknown service: %q", n)
		}
		if !slices.Contains(out, app) {
			out = append(out, app)
		}
	}
	return out, nil
}

// control starts, stops or restarts services: at once, or, for a hook, once its
// change has nothing else to do. A hook that waited would wait for itself.
func (c *command) control(ctx context.Context, verb string, args []string) error {
	ctl := &snapstate.Control{Snap: c.caller.Snap, Event: lifecycle.Event(verb)}
	switch verb {
	case "start":
		c.flags.BoolVar(&ctl.Enable, "enable", false, "also start it at boot")
	case "stop":
		c.flags.BoolVar(&ctl.Disable, "disable", false, "also do not start it at boot")
	case "restart":
		c.flags.BoolVar(&ctl.Reload, "reload", false, "use the service's reload-command, if it has one")
	}
	names, err := c.parse(args, 1, -1, "<snap>[.<service>]...")
	if err != nil {
		return err
	}
	if ctl.Apps, err = c.apps(names); err != nil {
		return err
	}
	if c.caller.Task == "" {
		return c.services.Control(ctx, ctl)
	}
	return c.m.change(c.caller.Snap, c.caller.Task, func(w *wishes) error {
		if len(w.Queue) == maxQueue {
			return fmt.Errorf("cannot %s services: the hook asked for %d things already", verb, maxQueue)
		}
		w.Queue = append(w.Queue, ctl)
		return nil
	})
}

// isConnected answers with its exit code.
func (c *command) isConnected(args []string) (int, error) {
	words, err := c.parse(args, 1, 1, "<plug or slot>")
	if err != nil {
		return 0, err
	}
	info, err := c.info()
	if err != nil {
		return 0, err
	}
	if info.Plugs[words[0]] == nil && info.Slots[words[0]] == nil {
		return 0, fmt.Errorf("snap %q has no plug or slot named %q", c.caller.Snap, words[0])
	}
	is, err := c.connections.IsConnected(c.caller.Snap, words[0])
	if err != nil {
		return 0, err
	}
	if is {
		return 0, nil
	}
	return 1, nil
}

var healthCode = regexp.MustCompile(`^[a-z](?:-?[a-z0-9]){2,29}$`)

func (c *command) setHealth(args []string) error {
	code := c.flags.String("code", "", "tells this problem from others")
	words, err := c.parse(args, 1, 2, "<okay|waiting|blocked|error> [<message>]")
	if err != nil {
		return err
	}
	h := &snapstate.Health{Status: words[0], Code: *code, Timestamp: time.Now().UTC()}
	if len(words) > 1 {
		h.Message = words[1]
	}
	switch {
	case !slices.Contains([]string{"okay", "waiting", "blocked", "error"}, h.Status):
		return fmt.Errorf("cannot set health: %q is not okay, waiting, blocked or error", h.Status)
	case h.Status == "okay" && (h.Message != "" || h.Code != ""):
		return errors.New(`cannot set health: "okay" has no message and no code`)
	case h.Status != "okay" && (len(h.Message) < 7 || len([]rune(h.Message)) > 70):
		return fmt.Errorf("cannot set health: %q needs a message of 7 to 70 characters", h.Status)
	case h.Code != "" && !healthCode.MatchString(h.Code):
		return errors.New("cannot set health: a code has 3 to 30 lower-case letters, digits and single inner dashes, a letter first")
	}
	info, err := c.info()
	if err != nil {
		return err
	}
	h.Revision = info.Revision
	return c.m.change(c.caller.Snap, c.caller.Task, func(w *wishes) error {
		w.Health = h
		return nil
	})
}

// process is one that still runs from another revision than the current one.
type process struct {
	App      string `json:"app"`
	PID      int    `json:"pid"`
	Revision string `json:"revision"`
}

// lifecycle says what is happening to the snap.
func (c *command) lifecycle(ctx context.Context, args []string) error {
	document := c.flags.BoolP("document", "d", false, "print a JSON document")
	if _, err := c.parse(args, 0, 0, "[-d]"); err != nil {
		return err
	}
	var doc struct {
		Event string    `json:"event"`
		Hook  string    `json:"hook,omitempty"`
		From  string    `json:"from,omitempty"`
		To    string    `json:"to,omitempty"`
		Old   []process `json:"old"`
	}
	doc.Event, doc.Hook, doc.Old = "none", c.caller.Hook, []process{}
	info, err := c.info()
	if err != nil {
		return err
	}
	to := info.Revision
	if c.caller.Task != "" {
		s, err := c.setup()
		if err != nil {
			return err
		}
		doc.Event, to = s.Event.Word(), s.To
		if !s.From.Unset() {
			doc.From = s.From.String()
		}
	}
	if !to.Unset() {
		doc.To = to.String()
	}
	running, err := c.m.processes(ctx, info)
	if err != nil {
		return err
	}
	for _, p := range running {
		if p.Revision != to {
			doc.Old = append(doc.Old, process{App: p.App, PID: p.PID, Revision: p.Revision.String()})
		}
	}
	if *document {
		return c.json(doc, "\t")
	}
	fmt.Fprintf(&c.out, "event: %s\n", doc.Event)
	for _, line := range []struct{ key, value string }{{"hook", doc.Hook}, {"from", doc.From}, {"to", doc.To}} {
		if line.value != "" {
			fmt.Fprintf(&c.out, "%s: %s\n", line.key, line.value)
		}
	}
	for _, p := range doc.Old {
		fmt.Fprintf(&c.out, "old: %s %d %s\n", p.App, p.PID, p.Revision)
	}
	return nil
}
