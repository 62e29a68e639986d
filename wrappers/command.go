// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"endured/snap"
	"endured/systemd"
)

// execLine returns the value of an Exec directive that runs one of the app's
// commands straight from the mount: the command chain, then the command.
// References to variables that env holds are expanded here, since systemd
// would see only those of the unit that is loaded when the line runs; others,
// such as $MAINPID, are left to systemd.
func execLine(app *snap.App, command string, env []snap.EnvVar) (string, error) {
	words := strings.Fields(command)
	if len(words) == 0 {
		return "", fmt.Errorf("command is empty")
	}
	var programs []string
	for _, c := range append(append([]string(nil), app.CommandChain...), words[0]) {
		program, err := insideSnap(app.Snap, c)
		if err != nil {
			return "", err
		}
		programs = append(programs, program)
	}
	line, err := systemd.QuoteExec(programs)
	if err != nil {
		return "", err
	}
	vars := envMap(env)
	for _, w := range words[1:] {
		arg, err := execWord(w, vars)
		if err != nil {
			return "", err
		}
		if arg != "" {
			line += " " + arg
		}
	}
	return line, nil
}

// insideSnap returns the path of a program that is named relative to the snap.
func insideSnap(info *snap.Info, name string) (string, error) {
	root := system().Mount(info.Name, info.Revision)
	path := filepath.Join(root, name)
	if !strings.HasPrefix(path, root+"/") {
		return "", fmt.Errorf("command %q is not inside the snap", name)
	}
	if strings.ContainsAny(path, "$=") { // env(1) would take the latter for an assignment
		return "", fmt.Errorf("command %q holds $ or = where a program is named", name)
	}
	return path, nil
}

// execWord returns one argument for an Exec line, "" if it vanishes: an
// argument that consists of variables that are empty is not passed at all.
func execWord(word string, vars map[string]string) (string, error) {
	later := "" // the last variable that is left to systemd
	expanded := os.Expand(word, func(name string) string {
		if _, ok := vars[name]; !ok && envName.MatchString(name) {
			later = name
		}
		return vars[name]
	})
	switch {
	case later == "" && expanded == "":
		return "", nil
	case later == "":
		return quoteArg(expanded)
	case word == "$"+later || word == "${"+later+"}":
		return "$" + later, nil // without braces: dropped by systemd too when it is empty
	}
	return execMixed(word, vars)
}

// execMixed is execWord for text among which there are variables for systemd.
func execMixed(word string, vars map[string]string) (string, error) {
	if _, err := quoteArg(word); err != nil { // what cannot be said at all
		return "", err
	}
	inner := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "\t", `\t`)
	return `"` + os.Expand(inner.Replace(word), func(name string) string {
		v, ok := vars[name]
		switch {
		case ok:
			return strings.ReplaceAll(inner.Replace(v), "$", "$$")
		case envName.MatchString(name):
			return "${" + name + "}"
		}
		return ""
	}) + `"`, nil
}

// quoteArg makes s one argument of an Exec line that nobody expands.
func quoteArg(s string) (string, error) {
	line, err := systemd.QuoteExec([]string{"/", s})
	return strings.TrimPrefix(line, "/ "), err
}
