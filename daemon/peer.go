// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"endured/dirs"
	"endured/osutil"
)

// Peer is who is at the other end of a connection.
type Peer struct {
	PID int
	UID uint32
	// Accepted is when the connection was accepted, in the time since boot: a
	// process that started later is not the one that connected.
	Accepted time.Duration
	// FromSnaps tells that it used the socket that is for programs of snaps.
	FromSnaps bool
	// Process holds on to a peer from there; nil for others.
	Process *osutil.Process
}

// kernelPeer asks the kernel who connected.
func kernelPeer(c net.Conn) (Peer, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("cannot identify the peer of a %T", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("cannot identify the peer: %w", err)
	}
	var cred *unix.Ucred
	var process *osutil.Process
	var credErr error
	fromSnaps := filepath.Base(c.LocalAddr().String()) == filepath.Base(dirs.New("/").SnapSocket())
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if credErr == nil && fromSnaps {
			process, credErr = holdPeer(int(fd), int(cred.Pid))
		}
	})
	if err = errors.Join(err, credErr); err != nil {
		return Peer{}, fmt.Errorf("cannot identify the peer: %w", err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return Peer{}, fmt.Errorf("cannot read the clock: %w", err)
	}
	return Peer{PID: int(cred.Pid), UID: cred.Uid, Accepted: time.Duration(now.Nano()), FromSnaps: fromSnaps, Process: process}, nil
}

// holdPeer refers to the process that connected. A kernel that cannot say
// which that was is asked for whatever has its number by now; see stillThere.
func holdPeer(socket, pid int) (*osutil.Process, error) {
	p, err := osutil.PeerProcess(socket, pid)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return osutil.OpenProcess(pid)
	}
	return p, err
}

// maxPerUser is how many connections a user other than root may have open:
// no user can take the daemon's descriptors away from the others.
const maxPerUser = 256

// peerListener identifies the peer of every connection as it is accepted.
type peerListener struct {
	net.Listener
	identify func(net.Conn) (Peer, error)
	log      *slog.Logger

	mu   sync.Mutex
	open map[uint32]int // connections by uid, without root's
}

func newPeerListener(l net.Listener, identify func(net.Conn) (Peer, error), log *slog.Logger) *peerListener {
	return &peerListener{Listener: l, identify: identify, log: log, open: map[uint32]int{}}
}

// Accept returns the next connection whose peer is known and within its limit.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := l.identify(c)
		if err != nil {
			l.log.Warn("connection refused", "err", err)
			c.Close()
			continue
		}
		if !l.admit(peer.UID) {
			l.log.Debug("connection refused: too many", "uid", peer.UID)
			if peer.Process != nil {
				peer.Process.Close()
			}
			c.Close()
			continue
		}
		return &peerConn{Conn: c, peer: peer, leave: func() { l.leave(peer.UID) }}, nil
	}
}

func (l *peerListener) admit(uid uint32) bool {
	if uid == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[uid] >= maxPerUser {
		return false
	}
	l.open[uid]++
	return true
}

func (l *peerListener) leave(uid uint32) {
	if uid == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[uid]--; l.open[uid] <= 0 {
		delete(l.open, uid)
	}
}

// peerConn is a connection that knows its peer.
type peerConn struct {
	net.Conn
	peer  Peer
	once  sync.Once
	leave func()
}

func (c *peerConn) Close() error {
	c.once.Do(func() {
		c.leave()
		if c.peer.Process != nil {
			c.peer.Process.Close()
		}
	})
	return c.Conn.Close()
}

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	pc, ok := c.(*peerConn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, pc.peer)
}

func peerOf(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}
