// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"endured/osutil"
	"endured/overlord/state"
	"endured/snap"
	"endured/systemd"
	"endured/wrappers"
)

// doMount mounts the new revision beside the old one. Nothing that runs is touched.
func (m *Manager) doMount(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	err = m.mountRevision(ctx, s.Snap, s.Rev)
	if err == nil {
		m.warmRevision(ctx, s)
	}
	if err != nil && !errors.Is(context.Cause(ctx), state.ErrShutdown) {
		// a task that failed leaves nothing behind
		err = errors.Join(err, m.detach(context.WithoutCancel(ctx), s.Snap, s.Rev.Revision))
	}
	return nil, err
}

func (m *Manager) mountRevision(ctx context.Context, name string, e *Revision) error {
	rev := e.Revision
	where := m.Dirs.Mount(name, rev)
	if err := os.MkdirAll(where, 0o755); err != nil {
		return fmt.Errorf("cannot make mount point: %w", err)
	}
	unit, data, err := wrappers.MountUnit(name, rev, wrappers.Options{Dirs: m.Dirs})
	if err != nil {
		return err
	}
	if err := osutil.WriteFileSync(filepath.Join(m.Dirs.Units(), unit), data, 0o644); err != nil {
		return fmt.Errorf("cannot write mount unit: %w", err)
	}
	if _, err := m.Systemd.Enable(ctx, unit); err != nil {
		return fmt.Errorf("cannot enable mount of snap %q: %w", name, err)
	}
	sts, err := m.Systemd.Status(ctx, unit)
	if err != nil {
		return fmt.Errorf("cannot mount snap %q: %w", name, err)
	}
	// After a crash it may be mounted, by the boot too. A start then waits for the
	// loop device, which without udev systemd never sees.
	if sts[0].ActiveState != "active" {
		if err := m.Systemd.Run(ctx, "start", unit, "replace"); err != nil {
			return fmt.Errorf("cannot mount snap %q: %w", name, err)
		}
	}
	// what is mounted must be what was validated
	got, err := os.ReadFile(filepath.Join(where, "meta/snap.yaml"))
	if err != nil {
		return fmt.Errorf("cannot read mounted snap: %w", err)
	}
	if !bytes.Equal(got, []byte(e.YAML)) {
		return fmt.Errorf("cannot use mounted snap %q: meta/snap.yaml is not what was validated", name)
	}
	return nil
}

func (m *Manager) undoMount(ctx context.Context, t *state.Task) (state.Commit, error) {
	s, err := m.SetupOf(t)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		if err = m.detach(ctx, s.Snap, s.Rev.Revision); err == nil || n == undoAttempts {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Duration(n) * 100 * time.Millisecond):
		}
	}
}

// undoAttempts is how often an undo is tried: what it leaves stays for good.
const undoAttempts = 3

// detach unmounts a revision that nothing of the snap uses. A stranger who
// stands in it keeps what he sees, and nobody else sees it any more.
func (m *Manager) detach(ctx context.Context, name string, rev snap.Revision) error {
	err := m.unmount(ctx, name, rev, 0)
	if errors.Is(err, unix.EBUSY) {
		err = m.unmount(ctx, name, rev, unix.MNT_DETACH)
	}
	return err
}

// unmount takes a revision's mount, mount unit and mount point away. It fails,
// and leaves everything as it is, while anything has a file of it open, unless
// flags say MNT_DETACH.
func (m *Manager) unmount(ctx context.Context, name string, rev snap.Revision, flags int) error {
	where := m.Dirs.Mount(name, rev)
	unit, _, err := wrappers.MountUnit(name, rev, wrappers.Options{Dirs: m.Dirs})
	if err != nil {
		return err
	}
	// the system call and not a stop job: a busy stop job would first have
	// killed what requires the mount, and its failure would stick
	for {
		if at, err := osutil.MountedAt(where); err != nil {
			return err
		} else if at == nil {
			break
		}
		if err := unix.Unmount(where, flags); err != nil {
			return fmt.Errorf("cannot unmount %s: %w", where, err)
		}
	}
	// nor does what is loaded to require it, and does not use it, have to end
	if err := m.Systemd.Run(ctx, "stop", unit, "ignore-requirements"); err != nil && !errors.Is(err, systemd.ErrNoSuchUnit) {
		return fmt.Errorf("cannot stop mount of snap %q: %w", name, err)
	}
	if _, err := m.Systemd.Disable(ctx, unit); err != nil {
		return fmt.Errorf("cannot disable mount of snap %q: %w", name, err)
	}
	if err := os.Remove(filepath.Join(m.Dirs.Units(), unit)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove mount unit: %w", err)
	}
	if err := m.Systemd.ResetFailed(ctx, unit); err != nil {
		return err
	}
	if err := os.Remove(where); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove mount point: %w", err)
	}
	os.Remove(filepath.Dir(where)) // only when empty: no other revision
	return nil
}
