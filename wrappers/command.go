// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"endured/snap"
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
	var line []string
	for _, c := range append(append([]string(nil), app.CommandChain...), words[0]) {
		program, err := insideSnap(app.Snap, c)
		if err != nil {
			return "", err
		}
		line = append(line, quoteValue(program))
	}
	vars := envMap(env)
	for _, w := range words[1:] {
		if word, ok := execWord(w, vars); ok {
			line = append(line, word)
		}
	}
	return strings.Join(line, " "), nil
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

// execWord returns one argument for an Exec line, and false if it vanishes: an
// argument that consists of variables that are empty is not passed at all.
func execWord(word string, vars map[string]string) (string, bool) {
	later := false
	escaped := strings.ReplaceAll(escapeQuoted(word), "%", "%%")
	out := os.Expand(escaped, func(name string) string {
		if v, ok := vars[name]; ok {
			return escapeExec(v)
		}
		if !envName.MatchString(name) {
			return ""
		}
		later = true
		return "${" + name + "}"
	})
	if name, ok := strings.CutPrefix(word, "$"); ok && later {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "{"), "}")
		if envName.MatchString(name) {
			return "$" + name, true // systemd drops it too when it is empty
		}
	}
	return quoteWord(out), out != ""
}
