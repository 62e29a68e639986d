// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"endured/systemd"
	"endured/systemd/systemdtest"
)

// sleepy keeps what is written to it once it is told to, until something else
// that has the word in it is written: as PID 1 leaves a message that it has
// read alone until a further one arrives.
type sleepy struct {
	net.Conn
	mu    sync.Mutex
	until []byte
	held  bytes.Buffer
}

func (s *sleepy) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		return s.Conn.Write(p)
	}
	s.held.Write(p)
	if bytes.Contains(p, s.until) {
		s.until = nil
		if _, err := s.held.WriteTo(s.Conn); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// TestNudge: a call that is left alone gets its answer all the same.
func TestNudge(t *testing.T) {
	t.Parallel()
	fake := systemdtest.New(t.TempDir(), systemdtest.Hooks{})
	defer fake.Close()
	var conn *sleepy
	m, err := systemd.Dial(t.Context(), systemd.Options{DialFunc: func(ctx context.Context) (net.Conn, error) {
		c, err := fake.Dial(ctx)
		conn = &sleepy{Conn: c}
		return conn, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	conn.mu.Lock()
	conn.until = []byte("Ping")
	conn.mu.Unlock()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	if _, err := m.Status(ctx, "absent.service"); err != nil {
		t.Errorf("%v", err)
	}
}
