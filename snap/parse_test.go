// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const head = "name: demo\nversion: 1\n"

// svc wraps the keys of a service into a document.
func svc(keys string) string {
	return head + "apps:\n  web: {command: bin/web, daemon: simple, " + keys + "}\n"
}

// app wraps the keys of an app that is no service into a document.
func app(keys string) string {
	return head + "apps:\n  web: {command: bin/web, " + keys + "}\n"
}

// invalid is the specification of what Parse refuses: the document, and the
// findings. Each finding names the key, what was found and what is allowed.
var invalid = []struct {
	name, yaml string
	want       []string
}{
	{"empty", "", []string{"the document is empty"}},
	{"comment", "# nothing\n", []string{"the document is empty"}},
	{"list", "- a\n", []string{"the document must be a map of keys such as name and version, found a list"}},
	{"scalar", "hello", []string{`the document must be a map of keys such as name and version, found "hello"`}},
	{"two documents", head + "---\n" + head, []string{"there is more than one YAML document"}},
	{"tab", "name:\tdemo\n\tversion: 1", []string{"not YAML: line 2: found a tab character that violates indentation"}},
	{"duplicate", head + "version: 2", []string{"version: appears twice (line 3)"}},
	{"duplicate app", head + "apps: {a: {command: x}, a: {command: y}}", []string{"apps.a: appears twice (line 3)"}},
	{"duplicate deep", svc("stop-mode: sigterm, stop-mode: sigint"), []string{"apps.web.stop-mode: appears twice (line 4)"}},
	{"merge key", head + "apps: {a: &a {command: x}, b: {<<: *a}}", []string{
		"apps.b: line 3: the keys of a map must be plain words", "apps.b.command: is missing; every app has a command"}},
	{"key list", head + "? [a]\n: b\n", []string{"line 3: the keys of a map must be plain words"}},
	{"null key", head + "~: b\n", []string{"line 3: the keys of a map must be plain words"}},
	{"custom tag", "name: !ruby/object demo\nversion: 1", []string{
		`name: must be a plain value, found one with the tag "!ruby/object"`, "name: is missing"}},
	{"self alias", head + "apps: &a {x: *a}", []string{"line 3: nested more than 32 levels deep"}},

	{"no name", "version: 1", []string{"name: is missing"}},
	{"no version", "name: demo", []string{"version: is missing"}},
	{"short name", "name: x\nversion: 1", []string{`name: "x" has 1 characters; a snap name has 2 to 40`}},
	{"long name", "name: " + strings.Repeat("a", 41) + "\nversion: 1", []string{
		`name: "` + strings.Repeat("a", 41) + `" has 41 characters; a snap name has 2 to 40`}},
	{"upper name", "name: Demo\nversion: 1", []string{`name: "Demo" is not a snap name: only a-z, 0-9 and dashes are allowed`}},
	{"path name", "name: ../../etc\nversion: 1", []string{`name: "../../etc" is not a snap name: only a-z, 0-9 and dashes are allowed`}},
	{"dash name", "name: a--b\nversion: 1", []string{`name: "a--b" is not a snap name: a dash must stand alone between letters or digits`}},
	{"dash end", "name: ab-\nversion: 1", []string{`name: "ab-" is not a snap name: a dash must stand alone between letters or digits`}},
	{"digits", "name: 123\nversion: 1", []string{`name: "123" is not a snap name: it needs a letter`}},
	{"instance name", "name: demo_two\nversion: 1", []string{`name: "demo_two" is not a snap name: only a-z, 0-9 and dashes are allowed`}},
	{"name list", "name: [a]\nversion: 1", []string{"name: must be a single value, found a list", "name: is missing"}},
	{"control name", "name: \"a\\nb\"\nversion: 1", []string{"name: holds the control character U+000A, which is not allowed here", "name: is missing"}},
	{"version long", "name: demo\nversion: " + strings.Repeat("1", 33), []string{`version: "` + strings.Repeat("1", 33) + `" has 33 characters; at most 32 are allowed`}},
	{"version chars", "name: demo\nversion: 1/2", []string{`version: "1/2" must be of letters, digits and inner :.+~- (the last may be + or ~)`}},
	{"version space", "name: demo\nversion: 1 2", []string{`version: "1 2" must be of letters, digits and inner :.+~- (the last may be + or ~)`}},
	{"summary long", head + "summary: " + strings.Repeat("ä", 129), []string{"summary: has 129 characters; at most 128 are allowed"}},
	{"summary lines", head + "summary: \"a\\nb\"", []string{"summary: holds the control character U+000A, which is not allowed here"}},
	{"title long", head + "title: " + strings.Repeat("t", 41), []string{"title: has 41 characters; at most 40 are allowed"}},
	{"description bell", head + "description: \"a\\nb\\a\"", []string{"description: holds the control character U+0007, which is not allowed here"}},
	{"description separator", head + "description: \"a\\u2028b\"", []string{"description: holds the control character U+2028, which is not allowed here"}},
	{"type", head + "type: application-set", []string{
		`type: "application-set" is not allowed; use app, application, base, gadget, kernel, os, core or snapd`}},
	{"confinement", head + "confinement: jail", []string{`confinement: "jail" is not allowed; use strict, devmode or classic`}},
	{"grade", head + "grade: beta", []string{`grade: "beta" is not allowed; use stable or devel`}},
	{"architectures", head + "architectures: amd64", []string{`architectures: must be a list, found "amd64"`}},
	{"architecture", head + "architectures: [../x]", []string{`architectures: "../x" is not the name of an architecture`}},

	{"epoch word", head + "epoch: one", []string{`epoch: "one" is not an epoch; use a number such as 1, "1*" (also reads epoch 0), or {read: [0, 1], write: [1]}`}},
	{"epoch 0*", head + "epoch: 0*", []string{`epoch: there is no epoch before 0 that "0*" could read`}},
	{"epoch negative", head + "epoch: -1", []string{`epoch: "-1" is not an epoch; use a number such as 1, "1*" (also reads epoch 0), or {read: [0, 1], write: [1]}`}},
	{"epoch order", head + "epoch: {read: [1, 0], write: [1]}", []string{"epoch.read: epochs must be in increasing order without repetition"}},
	{"epoch disjoint", head + "epoch: {read: [0], write: [1]}", []string{"epoch: read and write have no epoch in common, so the snap could not read its own data"}},
	{"epoch empty", head + "epoch: {read: [], write: [0]}", []string{"epoch.read: must list 1 to 10 epochs"}},
	{"epoch key", head + "epoch: {reads: [0]}", []string{"epoch.reads: unknown key; an epoch has read and write only"}},

	{"environment newline", head + "environment: {A: \"x\\nExecStart=/bin/sh\"}", []string{"environment.A: holds the control character U+000A, which is not allowed here"}},
	{"environment tab", svc(`environment: {A: "x\ty"}`), []string{"apps.web.environment.A: holds the control character U+0009, which is not allowed here"}},
	{"environment C1", svc(`environment: {A: "x\u0085y"}`), []string{"apps.web.environment.A: holds the control character U+0085, which is not allowed here"}},
	{"environment name", head + "environment: {A B: x}", []string{`environment.A B: "A B" cannot be the name of a variable; use letters, digits and _, no digit first`}},
	{"environment name newline", head + "environment: {\"A\\nB\": x}", []string{`environment."A\nB": "A\nB" cannot be the name of a variable; use letters, digits and _, no digit first`}},
	{"environment map value", head + "environment: {A: {b: c}}", []string{"environment.A: must be a single value, found a map"}},
	{"environment string", head + "environment: A=b", []string{`environment: must be a map, found "A=b"`}},
	{"environment list twice", head + "environment: [{A: b}, {A: c}]", []string{"environment.A: appears twice"}},
	{"environment long", head + "environment: {A: " + strings.Repeat("x", maxEnvValue+1) + "}", []string{"environment.A: has 32769 bytes; at most 32768 are allowed"}},

	{"plug name", head + "plugs: {Net: network}", []string{
		`plugs: "Net" is not a valid name: at most 64 lower-case letters, digits and single inner dashes, a letter first`}},
	{"interface name", head + "plugs: {net: Network}", []string{
		`plugs.net: "Network" is not a valid name: at most 64 lower-case letters, digits and single inner dashes, a letter first`}},
	{"plug list", head + "plugs: {net: [a]}", []string{"plugs.net: must be the name of an interface or a map, found a list"}},
	{"plug and slot", head + "plugs: {net: network}\nslots: {net: network}", []string{
		"slots.net: there is a plug of that name; names of plugs and slots must differ"}},
	{"app plug name", app("plugs: [../x]"), []string{
		`plugs: "../x" is not a valid name: at most 64 lower-case letters, digits and single inner dashes, a letter first`}},
	{"hook name", head + "hooks: {../x: {}}", []string{`hooks.../x: "../x" is not the name of a hook`}},

	{"app name", head + "apps: {a.b: {command: x}}", []string{
		`apps.a.b: "a.b" is not a valid name: at most 64 letters, digits and single inner dashes`}},
	{"app name traversal", head + "apps: {../x: {command: x}}", []string{
		`apps.../x: "../x" is not a valid name: at most 64 letters, digits and single inner dashes`}},
	{"app name long", head + "apps: {" + strings.Repeat("x", 65) + ": {command: x}}", []string{
		"apps." + strings.Repeat("x", 60) + `…: "` + strings.Repeat("x", 60) + `"… (65 bytes) is not a valid name: at most 64 letters, digits and single inner dashes`}},
	{"app list", head + "apps: [a]", []string{"apps: must be a map, found a list"}},
	{"app null", head + "apps: {a: }", []string{"apps.a.command: is missing; every app has a command"}},
	{"command absolute", head + "apps: {a: {command: /bin/sh}}", []string{
		`apps.a.command: "/bin/sh" is an absolute path; a command is given relative to the snap`}},
	{"command traversal", head + "apps: {a: {command: bin/../../x}}", []string{`apps.a.command: "bin/../../x" must not contain ".."`}},
	{"command variable", head + "apps: {a: {command: $SNAP/bin/x}}", []string{
		`apps.a.command: "$SNAP/bin/x" begins with a variable; a command is given relative to the snap, without $SNAP`}},
	{"command space", head + "apps: {a: {command: ' x'}}", []string{
		"apps.a.command: must begin with the path of a file inside the snap, not with a space"}},
	{"command dir", head + "apps: {a: {command: bin/}}", []string{`apps.a.command: "bin/" is not the path of a file`}},
	{"command dot", head + "apps: {a: {command: .}}", []string{`apps.a.command: "." is not the path of a file`}},
	{"command quote", head + "apps: {a: {command: 'x \"y\"'}}", []string{
		`apps.a.command: "x \"y\"" holds a character that is not allowed; use letters, digits, spaces and /._#:$-`}},
	{"command semicolon", head + "apps: {a: {command: 'x ; y'}}", []string{
		`apps.a.command: "x ; y" holds a character that is not allowed; use letters, digits, spaces and /._#:$-`}},
	{"command newline", head + "apps: {a: {command: \"x\\ny\"}}", []string{
		"apps.a.command: holds the control character U+000A, which is not allowed here"}},
	{"command percent", head + "apps: {a: {command: 'x %h'}}", []string{
		`apps.a.command: "x %h" holds a character that is not allowed; use letters, digits, spaces and /._#:$-`}},
	{"stop-command", svc("stop-command: /bin/true"), []string{
		`apps.web.stop-command: "/bin/true" is an absolute path; a command is given relative to the snap`}},
	{"reload-command", svc("reload-command: ../x"), []string{`apps.web.reload-command: "../x" must not contain ".."`}},
	{"post-stop-command", svc("post-stop-command: 'x|y'"), []string{
		`apps.web.post-stop-command: "x|y" holds a character that is not allowed; use letters, digits, spaces and /._#:$-`}},
	{"command-chain", svc("command-chain: [bin/a, /bin/b, ../c, 'd e']"), []string{
		`apps.web.command-chain[1]: "/bin/b" is an absolute path; a command is given relative to the snap`,
		`apps.web.command-chain[2]: "../c" must not contain ".."`,
		`apps.web.command-chain[3]: "d e" holds a character that is not allowed; use letters, digits and /._#:$-`}},
	{"command-chain string", svc("command-chain: bin/a"), []string{`apps.web.command-chain: must be a list, found "bin/a"`}},
	{"command-chain empty", svc("command-chain: ['']"), []string{"apps.web.command-chain[0]: must not be empty"}},

	{"daemon", app("daemon: complex"), []string{`apps.web.daemon: "complex" is not allowed; use simple, forking, oneshot, dbus or notify`}},
	{"daemon and its keys", app("daemon: complex, refresh-mode: endure, stop-timeout: 1s"), []string{
		`apps.web.daemon: "complex" is not allowed; use simple, forking, oneshot, dbus or notify`}},
	{"daemon-scope", svc("daemon-scope: session"), []string{`apps.web.daemon-scope: "session" is not allowed; use system or user`}},
	{"refresh-mode", svc("refresh-mode: survive"), []string{
		`apps.web.refresh-mode: "survive" is not allowed; use endure, restart, sigterm, sigterm-all, sigint, sigint-all, sighup, sighup-all, sigusr1, sigusr1-all, sigusr2 or sigusr2-all`}},
	{"refresh-mode ignore-running", svc("refresh-mode: ignore-running"), []string{
		`apps.web.refresh-mode: "ignore-running" is for apps that are not services; use endure, restart, sigterm, sigterm-all, sigint, sigint-all, sighup, sighup-all, sigusr1, sigusr1-all, sigusr2 or sigusr2-all`}},
	{"refresh-mode app", app("refresh-mode: restart"), []string{
		`apps.web.refresh-mode: "restart" is for services; an app without daemon: may only have "ignore-running"`}},
	{"refresh-mode app wrong", app("refresh-mode: x"), []string{`apps.web.refresh-mode: "x" is not allowed; use ignore-running`}},
	{"refresh-mode case", svc("refresh-mode: Endure"), []string{
		`apps.web.refresh-mode: "Endure" is not allowed; use endure, restart, sigterm, sigterm-all, sigint, sigint-all, sighup, sighup-all, sigusr1, sigusr1-all, sigusr2 or sigusr2-all`}},
	{"stop-mode", svc("stop-mode: sigkill"), []string{
		`apps.web.stop-mode: "sigkill" is not allowed; use sigterm, sigterm-all, sigint, sigint-all, sighup, sighup-all, sigusr1, sigusr1-all, sigusr2 or sigusr2-all`}},
	{"stop-mode endure", svc("stop-mode: endure"), []string{
		`apps.web.stop-mode: "endure" is not allowed; use sigterm, sigterm-all, sigint, sigint-all, sighup, sighup-all, sigusr1, sigusr1-all, sigusr2 or sigusr2-all`}},
	{"stop-mode app", app("stop-mode: sigterm"), []string{`apps.web.stop-mode: is for services only, and "web" has no daemon:`}},
	{"install-mode", svc("install-mode: off"), []string{`apps.web.install-mode: "off" is not allowed; use enable or disable`}},
	{"send-sigkill", svc("send-sigkill: never"), []string{`apps.web.send-sigkill: must be true or false, found "never"`}},
	{"send-sigkill quoted", svc("send-sigkill: 'false'"), []string{`apps.web.send-sigkill: must be true or false, found "false"`}},
	{"services only", app("start-timeout: 1s, stop-timeout: 1s, watchdog-timeout: 1s, restart-delay: 1s, restart-condition: always, success-exit-status: [1], install-mode: disable, timer: 10:00, daemon-scope: system, send-sigkill: false, before: [web]"),
		[]string{
			`apps.web.start-timeout: is for services only, and "web" has no daemon:`,
			`apps.web.stop-timeout: is for services only, and "web" has no daemon:`,
			`apps.web.watchdog-timeout: is for services only, and "web" has no daemon:`,
			`apps.web.restart-delay: is for services only, and "web" has no daemon:`,
			`apps.web.restart-condition: is for services only, and "web" has no daemon:`,
			`apps.web.success-exit-status: is for services only, and "web" has no daemon:`,
			`apps.web.install-mode: is for services only, and "web" has no daemon:`,
			`apps.web.timer: is for services only, and "web" has no daemon:`,
			`apps.web.daemon-scope: is for services only, and "web" has no daemon:`,
			`apps.web.send-sigkill: is for services only, and "web" has no daemon:`,
			`apps.web.before: is for services only, and "web" has no daemon:`,
			`apps.web.before: "web" is the service itself`,
		}},
	{"duration plain", svc("stop-timeout: 30"), []string{
		`apps.web.stop-timeout: "30" is not a duration; write a number with a unit (ns, us, ms, s, m, h), such as 30s or 1m30s`}},
	{"duration negative", svc("start-timeout: -1s"), []string{`apps.web.start-timeout: "-1s" is negative; a duration is 0 or more`}},
	{"duration days", svc("watchdog-timeout: 1d"), []string{
		`apps.web.watchdog-timeout: "1d" is not a duration; write a number with a unit (ns, us, ms, s, m, h), such as 30s or 1m30s`}},
	{"duration huge", svc("restart-delay: 99999999999h"), []string{
		`apps.web.restart-delay: "99999999999h" is not a duration; write a number with a unit (ns, us, ms, s, m, h), such as 30s or 1m30s`}},
	{"restart-condition", svc("restart-condition: sometimes"), []string{
		`apps.web.restart-condition: "sometimes" is not allowed; use no, never, on-success, on-failure, on-abnormal, on-abort, on-watchdog or always`}},
	{"exit status 0", svc("success-exit-status: [0]"), []string{`apps.web.success-exit-status: "0" is not an exit status; use 1 to 255`}},
	{"exit status 256", svc("success-exit-status: [1, 256]"), []string{`apps.web.success-exit-status: "256" is not an exit status; use 1 to 255`}},
	{"exit status signal", svc("success-exit-status: [SIGTERM]"), []string{`apps.web.success-exit-status: "SIGTERM" is not an exit status; use 1 to 255`}},
	{"bus-name", svc("bus-name: nodots"), []string{`apps.web.bus-name: "nodots" is not a D-Bus name such as org.example.Daemon`}},
	{"dbus without name", app("daemon: dbus"), []string{`apps.web.bus-name: is missing; "daemon: dbus" needs it, or activates-on`}},

	{"forking sigterm", app("daemon: forking, refresh-mode: sigterm"), []string{
		`apps.web.refresh-mode: "sigterm" signals the main process, and of a forking daemon that is only known with pid-file: (or use sigterm-all)`}},
	{"forking stop-mode", app("daemon: forking, stop-mode: sighup"), []string{
		`apps.web.stop-mode: "sighup" signals the main process, and of a forking daemon that is only known with pid-file: (or use sighup-all)`}},
	{"pid-file simple", svc("pid-file: $SNAP_DATA/pid"), []string{`apps.web.pid-file: is for "daemon: forking" only, found "daemon: simple"`}},
	{"pid-file place", app("daemon: forking, pid-file: /run/sshd.pid"), []string{
		`apps.web.pid-file: "/run/sshd.pid" is not allowed; use a path under $SNAP_DATA/, $SNAP_COMMON/ or /run/snap.demo/`}},
	{"pid-file traversal", app("daemon: forking, pid-file: $SNAP_DATA/../x"), []string{`apps.web.pid-file: "$SNAP_DATA/../x" is not a plain path`}},
	{"pid-file variable", app("daemon: forking, pid-file: $SNAP_DATA/$HOME"), []string{
		`apps.web.pid-file: "$SNAP_DATA/$HOME" is not allowed; use a path under $SNAP_DATA/, $SNAP_COMMON/ or /run/snap.demo/`}},
	{"pid-file specifier", app("daemon: forking, pid-file: $SNAP_DATA/%n"), []string{`apps.web.pid-file: "$SNAP_DATA/%n" is not a plain path`}},

	{"order unknown", svc("after: [db]"), []string{`apps.web.after: "db" is not an app of this snap`}},
	{"order app", head + "apps: {a: {command: x, daemon: simple, before: [b]}, b: {command: x}}", []string{`apps.a.before: "b" is not a service`}},
	{"order scope", head + "apps: {a: {command: x, daemon: simple, before: [b]}, b: {command: x, daemon: simple, daemon-scope: user}}", []string{
		`apps.a.before: "b" has a different daemon-scope`}},
	{"order cycle", head + "apps: {a: {command: x, daemon: simple, after: [b]}, b: {command: x, daemon: simple, after: [c]}, c: {command: x, daemon: simple, before: [b], after: [a]}}", []string{
		"apps: before and after form a cycle: a after b after c after a"}},

	{"socket without plug", svc("sockets: {s: {listen-stream: 80}}"), []string{"apps.web.sockets: needs the plug network-bind in apps.web.plugs"}},
	{"socket app", app("plugs: [network-bind], sockets: {s: {listen-stream: 80}}"), []string{`apps.web.sockets: is for services only, and "web" has no daemon:`}},
	{"socket name", svc("plugs: [network-bind], sockets: {../s: {listen-stream: 80}}"), []string{
		`apps.web.sockets.../s: "../s" is not a valid name: at most 64 letters, digits and single inner dashes`}},
	{"socket nowhere", svc("plugs: [network-bind], sockets: {s: {socket-mode: 0600}}"), []string{"apps.web.sockets.s.listen-stream: is missing"}},
	{"socket mode", svc("plugs: [network-bind], sockets: {s: {listen-stream: 80, socket-mode: 660}}"), []string{
		`apps.web.sockets.s.socket-mode: "660" is more than 0777; write it as an octal number such as 0660`}},
	{"socket mode word", svc("plugs: [network-bind], sockets: {s: {listen-stream: 80, socket-mode: rw}}"), []string{
		`apps.web.sockets.s.socket-mode: must be an octal number such as 0660, found "rw"`}},
	{"socket path", svc("plugs: [network-bind], sockets: {s: {listen-stream: /run/docker.sock}}"), []string{
		`apps.web.sockets.s.listen-stream: "/run/docker.sock" is not allowed; a socket's path begins with $SNAP_DATA/, $SNAP_COMMON/ or $XDG_RUNTIME_DIR/`}},
	{"socket traversal", svc("plugs: [network-bind], sockets: {s: {listen-stream: $SNAP_DATA/../s}}"), []string{
		"apps.web.sockets.s.listen-stream: \"$SNAP_DATA/../s\" is not a clean path: no \"..\", \".\" or \"//\""}},
	{"socket user path", svc("plugs: [network-bind], sockets: {s: {listen-stream: $SNAP_USER_DATA/s}}"), []string{
		`apps.web.sockets.s.listen-stream: "$SNAP_USER_DATA/s" is not allowed; a socket's path begins with $SNAP_DATA/, $SNAP_COMMON/ or $XDG_RUNTIME_DIR/`}},
	{"socket space", svc("plugs: [network-bind], sockets: {s: {listen-stream: '$SNAP_DATA/a b'}}"), []string{
		`apps.web.sockets.s.listen-stream: "$SNAP_DATA/a b" holds a character that is not allowed in an address`}},
	{"socket long", svc("plugs: [network-bind], sockets: {s: {listen-stream: $SNAP_COMMON/" + strings.Repeat("x", 90) + "}}"), []string{
		`apps.web.sockets.s.listen-stream: "$SNAP_COMMON/` + strings.Repeat("x", 47) + `"… (103 bytes) is too long for a socket once expanded`}},
	{"socket abstract", svc("plugs: [network-bind], sockets: {s: {listen-stream: '@other'}}"), []string{
		`apps.web.sockets.s.listen-stream: "@other": an abstract socket of this snap begins with "@snap.demo."`}},
	{"socket port", svc("plugs: [network-bind], sockets: {s: {listen-stream: 65536}}"), []string{
		`apps.web.sockets.s.listen-stream: "65536" is not an address to listen on; use a path such as $SNAP_DATA/sock, @snap.NAME.sock, or [HOST:]PORT with a port of 1 to 65535`}},
	{"socket port 0", svc("plugs: [network-bind], sockets: {s: {listen-stream: '127.0.0.1:0'}}"), []string{
		`apps.web.sockets.s.listen-stream: "127.0.0.1:0" is not an address to listen on; use a path such as $SNAP_DATA/sock, @snap.NAME.sock, or [HOST:]PORT with a port of 1 to 65535`}},
	{"socket host", svc("plugs: [network-bind], sockets: {s: {listen-stream: '0.0.0.0:80'}}"), []string{
		`apps.web.sockets.s.listen-stream: "0.0.0.0:80" is not allowed; the host may be 127.0.0.1, [::1] or [::]`}},

	{"activates-on", svc("activates-on: [bus]"), []string{`apps.web.activates-on: "bus" is not a slot of this snap`}},
	{"activates-on interface", head + "slots: {s: {interface: content}}\napps: {a: {command: x, daemon: simple, activates-on: [s]}}", []string{
		`apps.a.activates-on: the slot "s" is of interface "content"; only dbus can activate`}},
	{"activates-on bus", head + "slots: {s: {interface: dbus, bus: session, name: org.a}}\napps: {a: {command: x, daemon: simple, activates-on: [s]}}", []string{
		`apps.a.activates-on: the slot "s" is on bus "session"; this service needs one on bus "system"`}},
	{"activates-on twice", head + "slots: {s: {interface: dbus, bus: system, name: org.a}}\napps: {a: {command: x, daemon: simple, activates-on: [s]}, b: {command: x, daemon: simple, activates-on: [s]}}", []string{
		`apps.b.activates-on: the slot "s" activates "a" already`}},
	{"activates-on by name", head + "slots: {s: {interface: dbus, bus: system, name: org.a}, t: {interface: dbus, bus: system, name: org.a}}\napps: {a: {command: x, daemon: simple, activates-on: [s]}, b: {command: x, daemon: simple, activates-on: [t]}}", []string{
		`apps.b.activates-on: the name "org.a" activates "a" already`}},
	{"dbus slot", head + "slots: {s: {interface: dbus, bus: system, name: 'org.a\"/>'}}\napps: {a: {command: x, daemon: simple, slots: [s]}}", []string{
		`slots.s.name: "org.a\"/>" is not a D-Bus name such as org.example.Daemon`}},
	{"timer", svc("timer: 25:00"), []string{
		`apps.web.timer: "25:00" is not a timer such as 9:00-17:00/2 or mon-fri,10:00: "25:00" is not a time of day`}},
}

func TestParseInvalid(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range invalid {
		if seen[c.name] {
			t.Errorf("two cases are called %q", c.name)
		}
		seen[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			info, err := Parse([]byte(c.yaml))
			var invalid *InvalidError
			if !errors.As(err, &invalid) || info != nil {
				t.Fatalf("got %v, %v", info, err)
			}
			var got []string
			for _, p := range invalid.Problems {
				got = append(got, p.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}

func TestErrorListsAll(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("name: X1\napps: {a: {command: /x}}"))
	want := `cannot read snap.yaml:
- apps.a.command: "/x" is an absolute path; a command is given relative to the snap
- name: "X1" is not a snap name: only a-z, 0-9 and dashes are allowed
- version: is missing`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	_, err = Parse([]byte("name: demo"))
	if err == nil || err.Error() != "cannot read snap.yaml: version: is missing" {
		t.Errorf("got %v", err)
	}
}

// valid is the specification of what Parse takes: the keys of an app, and what
// must have become of them.
var valid = []struct {
	name, yaml string
	check      func(i *Info, a *App) bool
	notes      []string
}{
	{"defaults", app(""), func(i *Info, a *App) bool {
		return i.Type == "app" && i.Confinement == "strict" && slices.Equal(i.Architectures, []string{"all"}) && a.SendSIGKILL &&
			!a.IsService() && i.Version == "1" && a.Snap == i && i.Epoch.CanRead(Epoch{})
	}, nil},
	{"version is text", "name: demo\nversion: 1.10\napps: {web: {command: x}}", func(i *Info, a *App) bool { return i.Version == "1.10" }, nil},
	{"version date", "name: demo\nversion: 2024-01-02\napps: {web: {command: x}}", func(i *Info, a *App) bool { return i.Version == "2024-01-02" }, nil},
	{"version plus", "name: demo\nversion: 1.0~rc1+git5\napps: {web: {command: x}}", func(i *Info, a *App) bool { return i.Version == "1.0~rc1+git5" }, nil},
	{"description lines", app("plugs: []") + "description: |\n  a\n  b\n", func(i *Info, a *App) bool { return i.Description == "a\nb\n" }, nil},
	{"type application", app("") + "type: application", func(i *Info, a *App) bool { return i.Type == "app" }, nil},
	{"confinement", app("") + "confinement: devmode", func(i *Info, a *App) bool { return i.Confinement == "devmode" }, nil},
	{"epoch", app("") + "epoch: 1*", func(i *Info, a *App) bool { return i.Epoch.String() == "1*" && i.Epoch.CanRead(Epoch{}) }, nil},
	{"epoch lists", app("") + "epoch: {read: [0, 1, 2], write: [1, 2]}", func(i *Info, a *App) bool {
		return slices.Equal(i.Epoch.Read, []uint32{0, 1, 2}) && slices.Equal(i.Epoch.Write, []uint32{1, 2})
	}, nil},
	{"epoch read only", app("") + "epoch: {read: [0, 1]}", func(i *Info, a *App) bool { return slices.Equal(i.Epoch.Write, []uint32{1}) }, nil},
	{"environment order", app("environment: {Z: 1, A: true, M: ~, _x: 'ä $SNAP \"q\" %h \\'}"), func(i *Info, a *App) bool {
		return slices.Equal(a.Environment, []EnvVar{{"Z", "1"}, {"A", "true"}, {"M", ""}, {"_x", `ä $SNAP "q" %h \`}})
	}, nil},
	{"environment list", app("environment: [{Z: 1}, {A: 2}]"), func(i *Info, a *App) bool {
		return slices.Equal(a.Environment, []EnvVar{{"Z", "1"}, {"A", "2"}})
	}, nil},
	{"aliases", head + "x: &e {A: b}\nenvironment: *e\napps: {web: {command: x}}", func(i *Info, a *App) bool {
		return slices.Equal(i.Environment, []EnvVar{{"A", "b"}})
	}, []string{"x: unknown key, ignored"}},
	{"command", app("command-chain: [a/b, c], stop-command: stop --now"), func(i *Info, a *App) bool {
		return a.Command == "bin/web" && slices.Equal(a.CommandChain, []string{"a/b", "c"}) && a.StopCommand == "stop --now"
	}, []string{"apps.web.stop-command: has no effect without daemon:"}},
	{"command words", svc("reload-command: ./bin/x $SNAP_DATA/a_b.c#d:e -- /etc/f"), func(i *Info, a *App) bool {
		return a.ReloadCommand == "./bin/x $SNAP_DATA/a_b.c#d:e -- /etc/f"
	}, nil},
	{"endure", svc("refresh-mode: endure, stop-mode: sigterm"), func(i *Info, a *App) bool {
		return a.RefreshMode == "endure" && a.StopMode == "sigterm" && a.StopMode.Signal() == "SIGTERM" && !a.StopMode.All() && a.RefreshMode.Signal() == ""
	}, nil},
	{"sigint-all", svc("refresh-mode: sigint-all"), func(i *Info, a *App) bool { return a.RefreshMode.Signal() == "SIGINT" && a.RefreshMode.All() }, nil},
	{"ignore-running", app("refresh-mode: ignore-running"), func(i *Info, a *App) bool { return a.RefreshMode == "ignore-running" },
		[]string{`apps.web.refresh-mode: "ignore-running" has no effect: a refresh never stops or waits for an app that is not a service`}},
	{"unset words", svc("refresh-mode: '', stop-mode: , install-mode: ''"), func(i *Info, a *App) bool { return a.RefreshMode == "" && a.StopMode == "" }, nil},
	{"unset on app", app("stop-mode: '', timer: , daemon: ''"), func(i *Info, a *App) bool { return !a.IsService() }, nil},
	{"send-sigkill", svc("send-sigkill: false"), func(i *Info, a *App) bool { return !a.SendSIGKILL }, nil},
	{"durations", svc("start-timeout: 1h, stop-timeout: 1m30s, watchdog-timeout: 0, restart-delay: 1.5s"), func(i *Info, a *App) bool {
		return a.StartTimeout == time.Hour && a.StopTimeout == 90*time.Second && a.WatchdogTimeout == 0 && a.RestartDelay == 1500*time.Millisecond
	}, nil},
	{"restart no", svc("restart-condition: no"), func(i *Info, a *App) bool { return a.RestartCondition == "never" }, nil},
	{"exit status", svc("success-exit-status: [1, 42, 255]"), func(i *Info, a *App) bool { return slices.Equal(a.SuccessExit, []int{1, 42, 255}) }, nil},
	{"forking pid-file", app("daemon: forking, pid-file: $SNAP_COMMON/run/web.pid, refresh-mode: sigterm, stop-mode: sigint"), func(i *Info, a *App) bool {
		return a.PIDFile == "$SNAP_COMMON/run/web.pid"
	}, nil},
	{"forking pid-file run", app("daemon: forking, pid-file: /run/snap.demo/web.pid"), func(i *Info, a *App) bool { return a.PIDFile == "/run/snap.demo/web.pid" }, nil},
	{"forking all", app("daemon: forking, refresh-mode: sigterm-all, stop-mode: sigint-all"), func(i *Info, a *App) bool { return true }, nil},
	{"sockets", svc("plugs: [network-bind], sockets: {b: {listen-stream: 80}, a: {listen-stream: $SNAP_DATA/s, socket-mode: 0660}, c: {listen-stream: '@snap.demo.x'}, d: {listen-stream: '[::1]:8080', socket-mode: 0o600}}"),
		func(i *Info, a *App) bool {
			return len(a.Sockets) == 4 && a.Sockets[0].Name == "a" && a.Sockets[0].Mode == 0o660 && a.Sockets[1].ListenStream == "80" &&
				a.Sockets[3].Mode == 0o600 && a.Sockets[0].Unit() == "snap.demo.web.a.socket" && a.Activated()
		}, nil},
	{"sockets snap plug", svc("sockets: {b: {listen-stream: 80}}") + "plugs: {net: network-bind}", func(i *Info, a *App) bool {
		return slices.Equal(a.Plugs, []string{"net"}) && i.Plugs["net"].Interface == "network-bind"
	}, nil},
	{"sockets classic", svc("sockets: {b: {listen-stream: 80}}") + "confinement: classic", func(i *Info, a *App) bool { return len(a.Sockets) == 1 }, nil},
	{"plugs", head + "plugs: {n: network, all: , c: {interface: content, target: $SNAP/x, list: [a]}}\napps: {web: {command: x, plugs: [n, home], slots: [s]}}",
		func(i *Info, a *App) bool {
			return slices.Equal(a.Plugs, []string{"all", "c", "home", "n"}) && len(i.Plugs) == 4 && len(i.Slots) == 1 && i.Plugs["c"].Unscoped && !i.Plugs["home"].Unscoped
		}, nil},
	{"dbus", head + "slots: {s: {interface: dbus, bus: system, name: org.example.A}}\napps: {web: {command: x, daemon: dbus, activates-on: [s]}}",
		func(i *Info, a *App) bool {
			return a.BusName == "org.example.A" && slices.Equal(a.ActivatesOn, []string{"s"})
		}, nil},
	{"dbus name", app("daemon: dbus, bus-name: org.example.A-b_c"), func(i *Info, a *App) bool { return a.BusName == "org.example.A-b_c" }, nil},
	{"order", head + "apps: {web: {command: x, daemon: simple, after: [z]}, a: {command: x, daemon: simple, after: [web]}, z: {command: x, daemon: simple, before: [a]}}",
		func(i *Info, a *App) bool {
			var got []string
			for _, s := range i.Services() {
				got = append(got, s.Name)
			}
			return slices.Equal(got, []string{"z", "web", "a"})
		}, nil},
	{"timer", svc("timer: 'mon-fri,9:00-17:00/2,,sun,0:00~24:00'"), func(i *Info, a *App) bool { return a.Activated() }, nil},
	{"typos", svc("refresh_mode: endure, refresh-moode: x, stop-timout: 1s, wathever: 1, daemon_scope: user") + "layouts: {}\nvesion: 2\n",
		func(i *Info, a *App) bool { return a.RefreshMode == "" }, []string{
			`apps.web.refresh_mode: unknown key, probably a typo of "refresh-mode"`,
			`apps.web.refresh-moode: unknown key, probably a typo of "refresh-mode"`,
			`apps.web.stop-timout: unknown key, probably a typo of "stop-timeout"`,
			`apps.web.wathever: unknown key, ignored`,
			`apps.web.daemon_scope: unknown key, probably a typo of "daemon-scope"`,
			`layouts: unknown key, probably a typo of "layout"`,
			`vesion: unknown key, probably a typo of "version"`,
		}},
	{"socket typo", svc("plugs: [network-bind], sockets: {b: {listen-stream: 80, socket_mode: 0600}}"), func(i *Info, a *App) bool { return true },
		[]string{`apps.web.sockets.b.socket_mode: unknown key, probably a typo of "socket-mode"`}},
	{"no effect", app("completer: bin/c, autostart: x.desktop, aliases: [w], common-id: org.x"), func(i *Info, a *App) bool { return true },
		[]string{"apps.web.completer: has no effect yet", "apps.web.autostart: has no effect yet", "apps.web.aliases: has no effect yet"}},
	{"store keys", app("") + "website: https://x\nlinks: {a: [b]}\ngrade: stable\nlicense: Apache-2.0\nprovenance: x\n", func(i *Info, a *App) bool { return i.License == "Apache-2.0" }, nil},
}

func TestParseValid(t *testing.T) {
	t.Parallel()
	for _, c := range valid {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i, err := Parse([]byte(c.yaml))
			if err != nil {
				t.Fatal(err)
			}
			if err := i.Supported(); err != nil {
				t.Error(err)
			}
			if a := i.Apps["web"]; a == nil || !c.check(i, a) {
				t.Errorf("got %+v with %+v", i, a)
			}
			if !slices.Equal(i.Notes, c.notes) {
				t.Errorf("notes:\n  %s", strings.Join(i.Notes, "\n  "))
			}
		})
	}
}

// TestEveryKeyIsRead keeps the lists of known keys and the code that reads
// them together: a key of the wrong kind is noticed, so it is read.
func TestEveryKeyIsRead(t *testing.T) {
	t.Parallel()
	elsewhere := []string{"adapter", "aliases", "autostart", "common-id", "completer", "desktop"}
	for _, key := range appKeys {
		if slices.Contains(elsewhere, key) {
			continue
		}
		bad := "[{}]"
		if key == "environment" || key == "sockets" {
			bad = "[[]]"
		}
		if _, err := Parse([]byte(head + "apps: {a: {" + key + ": " + bad + "}}")); err == nil || !strings.Contains(err.Error(), "apps.a."+key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, key := range serviceKeys {
		if !slices.Contains(appKeys, key) {
			t.Errorf("%s is not a key of an app", key)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	laughs := head + "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'i'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	apps := func(n int) string {
		var b strings.Builder
		b.WriteString(head + "apps:\n")
		for i := range n {
			fmt.Fprintf(&b, "  a%d: {command: x, daemon: simple, after: [%s]}\n", i, map[bool]string{false: fmt.Sprintf("a%d", i-1)}[i == 0])
		}
		return b.String()
	}
	if i, err := Parse([]byte(apps(500))); err != nil || len(i.Services()) != 500 {
		t.Error(err)
	}
	for what, c := range map[string]struct{ yaml, want string }{
		"laughs":       {laughs, "cannot read snap.yaml: there are more than"},
		"large":        {head + "#" + strings.Repeat("x", maxYAML), "cannot read snap.yaml: the document has 1048599 bytes; at most 1048576 are allowed"},
		"deep":         {head + "a: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "cannot read snap.yaml: line 3: nested more than 32 levels deep"},
		"very deep":    {head + "a: " + strings.Repeat("[", 500000), "cannot read snap.yaml: not YAML: "},
		"deep maps":    {head + "a: " + strings.Repeat("{a: ", 9000), "cannot read snap.yaml: not YAML: "},
		"wide":         {head + "a: [" + strings.Repeat("1,", 60000) + "]", "cannot read snap.yaml: there are more than 50000 values"},
		"aliases":      {head + "a: &a 1\nb: [" + strings.Repeat("*a,", 101) + "]", "cannot read snap.yaml: there are more than 100 aliases"},
		"apps":         {apps(501), "cannot read snap.yaml: apps.a500: is one too many; at most 500 apps are allowed"},
		"bad utf-8":    {"name: \xff\xfe", "cannot read snap.yaml: not YAML: "},
		"nul":          {"name: \x00", "cannot read snap.yaml: not YAML: "},
		"long word":    {"name: " + strings.Repeat("n", 500000) + "\nversion: 1", `cannot read snap.yaml: name: "nnn`},
		"long key":     {head + "apps: {" + strings.Repeat("n", 1000) + ": {}}", "cannot read snap.yaml: apps.nnn"},
		"many errors":  {head + "apps: {a: {command: x, environment: {" + manyBad(2000) + "}}}", "cannot read snap.yaml:\n- apps.a.environment.0: "},
		"long command": {head + "apps: {a: {command: x " + strings.Repeat("y", maxCommand) + "}}", "cannot read snap.yaml: apps.a.command: has 8194 bytes; at most 8192 are allowed"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := Parse([]byte(c.yaml))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %.300v", err)
			} else if len(err.Error()) > 20000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if d := time.Since(start); d > time.Minute { // it would be hours
				t.Errorf("took %s", d)
			}
		})
	}
}

func manyBad(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d: x, ", i)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			info, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(info, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if err := info.Supported(); err != nil {
				got = append(got, "\n"+err.Error()...)
			}
			got = append(got, '\n')
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s differs; go test -update rewrites it; got:\n%s", golden, got)
			}
		})
	}
}
