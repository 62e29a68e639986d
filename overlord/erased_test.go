// SPDX-License-Identifier: Apache-2.0

package overlord_test

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"endured/overlord/recipes"
	"endured/snap"
)

// TestAbortedAndKilledWhileErasing: the daemon is killed after a removal has
// begun to erase data and was aborted. The snapshot is all that is left then,
// and stays; what remains of the snap can be removed and nothing else.
func TestAbortedAndKilledWhileErasing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, newLibrary(t))
	m.done(m.install("v4"))
	write(t, m.dirs.Data("demo", snap.Revision(-1)), "note", "precious", 0o644)
	ids, killed := make(chan string, 1), make(chan error, 1)
	m.hook(nil, nil, func(point string) {
		if point == "discard-snap:do:acted" {
			killed <- m.o.Abort(<-ids)
			runtime.Goexit()
		}
	})
	id := m.begun(removeAll(m))
	ids <- id
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	m.missing(m.dirs.Data("demo", snap.Revision(-1)))
	m.stop()
	m.hook(nil, nil, nil)
	m.start()
	m.wait(id)
	if files, _ := filepath.Glob(filepath.Join(m.dirs.Snapshots(), "*.zip")); len(files) != 1 {
		t.Errorf("snapshots: %v\n%s", files, m.tasks(id))
	}
	if _, err := enable(m); err == nil || !strings.Contains(err.Error(), "remove it again") {
		t.Errorf("enable: %v", err)
	}
	m.done(m.o.Remove(t.Context(), []string{"demo"}, recipes.RemoveOptions{Purge: true}))
	m.sound()
}
