// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// rebootStatus is how a script says that it wants to go on after a reboot, as in spread.
const rebootStatus = 213

// prelude comes before every script. Each line of the trace says how many ms the script has run. REBOOT reboots in order,
// REBOOT --crash by a kill -9 of PID 1; either way the same script runs again, with SPREAD_REBOOT one higher.
const prelude = `set -eu
SCRIPT_BEGAN=${EPOCHREALTIME/./}
PS4='+ $(((${EPOCHREALTIME/./} - SCRIPT_BEGAN) / 1000)) '
REBOOT() {
	{ set +x; } 2>/dev/null
	echo "${1:-}" >/srv/host/reboot
	exit 213
}
ERROR() {
	{ set +x; } 2>/dev/null
	echo "error: $*" >&2
	exit 1
}
FATAL() { ERROR "$@"; }
`

// script puts together what bash runs: prelude, environment, directory, text. extra comes before the job's own
// environment, so that this may use it.
func (j *job) script(root, text string, extra []variable) string {
	var b strings.Builder
	b.WriteString(prelude)
	for _, v := range append(extra, j.env...) {
		if v.Name == "SPREAD_PATH" {
			v.Value = root
		}
		// As in spread, a value is a shell word in double quotes: it may use variables and commands.
		value := strings.ReplaceAll(fromHost(v.Value), `"`, `\"`)
		fmt.Fprintf(&b, "export %s=\"%s\"\n", v.Name, value)
	}
	fmt.Fprintf(&b, "cd '%s/%s'\n", root, j.task.name)
	b.WriteString("set -x\n")
	b.WriteString(text)
	b.WriteString("\n")
	return b.String()
}

// fromHost replaces a value of the form $(HOST: COMMAND) by what the command prints on the host, as spread does.
func fromHost(value string) string {
	command, ok := strings.CutPrefix(value, "$(HOST:")
	if !ok || !strings.HasSuffix(command, ")") {
		return value
	}
	out, err := exec.Command("bash", "-c", strings.TrimSuffix(command, ")")).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// part is one script of a job, with the word that names it in reports.
type part struct{ what, text string }

func parts(what string, texts ...string) []part {
	var out []part
	for _, t := range texts {
		if strings.TrimSpace(t) != "" {
			out = append(out, part{what, t})
		}
	}
	return out
}

func (j *job) prepareParts() []part {
	return parts("prepare", j.project.PrepareEach, j.backend.PrepareEach, j.suite.PrepareEach, j.task.Prepare)
}

func (j *job) restoreParts() []part {
	return parts("restore", j.task.Restore, j.suite.RestoreEach, j.backend.RestoreEach, j.project.RestoreEach)
}

func (j *job) debugParts() []part {
	return parts("debug", j.task.Debug, j.suite.DebugEach, j.backend.DebugEach, j.project.DebugEach,
		j.suite.Debug, j.backend.Debug, j.project.Debug)
}

// onHost says whether the job runs beside devices of its own, not inside one.
func (j *job) onHost() bool { return j.value("HOST_SIDE") == "1" }

// fresh says whether the job needs a device that nothing ran in before, and that nothing runs in after.
func (j *job) fresh() bool { return j.value("FRESH_DEVICE") == "1" }
