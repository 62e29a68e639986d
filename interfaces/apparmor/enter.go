// SPDX-License-Identifier: Apache-2.0

package apparmor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"endured/dirs"
)

// Mark says to programs that are no daemon whether profiles have an effect:
// the file exists, and holds the reason, where they have none.
func (s *Store) Mark() error {
	path := s.Dirs.Unconfined()
	if s.off == nil {
		return remove(path)
	}
	if err := os.MkdirAll(s.Dirs.Run(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(s.off.Error()+"\n"), 0o644)
}

// EnterOnExec has this process get a profile as it executes its next program.
// It returns false where no profile has an effect. The calling goroutine stays
// on its thread, for which alone it is: it must execute the program.
func EnterOnExec(d dirs.Dirs, label string) (entered bool, err error) {
	on, err := os.ReadFile(d.Under("/sys/module/apparmor/parameters/enabled"))
	if err != nil || !strings.HasPrefix(string(on), "Y") {
		return false, nil
	}
	if _, err := os.Lstat(d.Unconfined()); err == nil {
		return false, nil
	}
	runtime.LockOSThread()
	f, err := os.OpenFile(d.Under("/proc/thread-self/attr/apparmor/exec"), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) { // of an older kernel
		f, err = os.OpenFile(d.Under("/proc/thread-self/attr/exec"), os.O_WRONLY, 0)
	}
	if err == nil {
		_, err = f.WriteString("exec " + label)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return false, fmt.Errorf("cannot enter AppArmor profile %q: %w", label, err)
	}
	return true, nil
}
