// SPDX-License-Identifier: Apache-2.0

package systemdtest

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	managerPath = "/org/freedesktop/systemd1"
	managerIfc  = "org.freedesktop.systemd1.Manager"
	unitIfc     = "org.freedesktop.systemd1.Unit"
	jobIfc      = "org.freedesktop.systemd1.Job"
	propsIfc    = "org.freedesktop.DBus.Properties"
)

// peer is the fake's end of one connection.
type peer struct {
	raw  net.Conn
	mu   sync.Mutex
	bus  *dbus.Conn
	gone bool
}

func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.raw.Close()
	if p.bus != nil {
		p.bus.Close()
	}
}

func socketPair() (net.Conn, net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "systemd1")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, nil, err
		}
	}
	return ends[0], ends[1], nil
}

// serve answers one client until the connection breaks.
func (f *Fake) serve(c net.Conn) {
	p := &peer{raw: c}
	f.mu.Lock()
	closed := f.closed
	if !closed {
		f.peers[p] = struct{}{}
	}
	f.mu.Unlock()
	if closed {
		c.Close()
		return
	}
	go func() {
		if err := f.greet(p); err != nil {
			p.close()
		}
	}()
}

func (f *Fake) greet(p *peer) error {
	if err := acceptSASL(p.raw); err != nil {
		return err
	}
	bus, err := dbus.NewConn(&preAuthenticated{Conn: p.raw})
	if err != nil {
		return err
	}
	o := &object{f: f}
	if err := bus.Export(o, managerPath, managerIfc); err != nil {
		return err
	}
	if err := bus.ExportSubtree(&unitProps{f}, managerPath+"/unit", propsIfc); err != nil {
		return err
	}
	if err := bus.ExportSubtree(&jobProps{f}, managerPath+"/job", propsIfc); err != nil {
		return err
	}
	// Calls are answered from here on; signals wait for the lock.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return bus.Close()
	}
	p.bus = bus
	return bus.Auth([]dbus.Auth{dbus.AuthExternal("0")})
}

// emit sends a signal to every peer, in the order of the changes: the lock is
// held.
func (f *Fake) emit(path dbus.ObjectPath, name string, v ...any) {
	for p := range f.peers {
		p.mu.Lock()
		bus := p.bus
		p.mu.Unlock()
		if bus != nil && bus.Emit(path, name, v...) != nil {
			delete(f.peers, p)
		}
	}
}

// acceptSASL is the server's half of the handshake. It reads byte by byte:
// what follows BEGIN belongs to the bus.
func acceptSASL(c net.Conn) error {
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, one); err != nil {
			return err
		}
		line = append(line, one[0])
		text, whole := bytes.CutSuffix(line, []byte("\r\n"))
		if !whole {
			continue
		}
		text = bytes.TrimLeft(text, "\x00")
		reply := "ERROR\r\n"
		switch {
		case bytes.Equal(text, []byte("BEGIN")):
			return nil
		case bytes.Equal(text, []byte("AUTH")):
			reply = "REJECTED EXTERNAL\r\n"
		case bytes.HasPrefix(text, []byte("AUTH EXTERNAL")), bytes.HasPrefix(text, []byte("DATA")):
			reply = "OK 0123456789abcdef0123456789abcdef\r\n"
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return err
		}
		line = line[:0]
	}
}

// preAuthenticated answers godbus' own handshake, which it insists on as a
// client: both ends of a fake bus are clients to it.
type preAuthenticated struct {
	net.Conn
	mu      sync.Mutex
	begun   bool
	written []byte
	reply   bytes.Buffer
}

func (s *preAuthenticated) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		return s.Conn.Write(p)
	}
	s.written = append(s.written, p...)
	for {
		line, rest, whole := bytes.Cut(s.written, []byte("\r\n"))
		if !whole {
			return len(p), nil
		}
		s.written = rest
		line = bytes.TrimLeft(line, "\x00")
		switch {
		case bytes.Equal(line, []byte("BEGIN")):
			s.begun = true
			return len(p), nil
		case bytes.Equal(line, []byte("AUTH")):
			s.reply.WriteString("REJECTED EXTERNAL\r\n")
		default:
			s.reply.WriteString("OK 0123456789abcdef0123456789abcdef\r\n")
		}
	}
}

func (s *preAuthenticated) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.reply.Len() > 0 {
		defer s.mu.Unlock()
		return s.reply.Read(p)
	}
	s.mu.Unlock()
	return s.Conn.Read(p)
}
