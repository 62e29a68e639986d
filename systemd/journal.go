// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Journal reads the system's journal with journalctl.
type Journal struct{}

// journalLimit is how long a look into the journal may take.
const journalLimit = 30 * time.Second

// Output returns the last lines, at most n, that processes of a unit wrote to
// their standard output and error under an invocation.
func (Journal) Output(ctx context.Context, unit, invocation string, n int) ([]string, error) {
	ctx, stop := context.WithTimeout(ctx, journalLimit)
	defer stop()
	// what the unit wrote may still be on its way; the journal answers when it is not
	if out, err := exec.CommandContext(ctx, "journalctl", "--sync").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot bring the journal up to date: %w: %s", err, bytes.TrimSpace(out))
	}
	cmd := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=cat", "--lines="+strconv.Itoa(n),
		"_TRANSPORT=stdout", "_SYSTEMD_UNIT="+unit, "_SYSTEMD_INVOCATION_ID="+invocation)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot read the journal of %s: %w", unit, err)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimRight(string(out), "\n"), "\n"), nil
}
