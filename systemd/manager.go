// SPDX-License-Identifier: Apache-2.0

// Package systemd talks to PID 1 over D-Bus: it enqueues jobs and waits for
// them, reads what units do, and writes unit files as data.
//
// One connection carries calls and signals. Signals are handled in the order
// of the stream, before any reply that follows them, so that a job's end is
// never missed. A lost connection (daemon-reexec on the private socket, a
// restarted dbus-daemon) is made again, and open jobs are then looked up.
package systemd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// The sockets that Dial tries, in this order.
const (
	DefaultSystemBus = "/run/dbus/system_bus_socket"
	DefaultPrivate   = "/run/systemd/private"
)

// recheckEvery is how often what is awaited is looked up although no event
// said that it changed.
const recheckEvery = time.Second

// Options says where PID 1 is. The zero value means this system's.
type Options struct {
	// Logger gets reconnects and the like; nil discards them.
	Logger *slog.Logger
	// SystemBus and Private are socket paths; "" means the default, "-" that
	// this way is not tried.
	SystemBus, Private string
	// DialFunc, if set, is used instead of both. The peer speaks D-Bus as
	// PID 1 does on its private socket.
	DialFunc func(ctx context.Context) (net.Conn, error)
}

// Manager is a client of one service manager. Its methods may be used by
// several goroutines. Errors that the service manager answers with are
// *Error; after Close they are ErrClosed.
type Manager struct {
	opts   Options
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	keeper sync.WaitGroup

	mu       sync.Mutex
	cur      *link         // nil while there is no connection
	changed  chan struct{} // closed and replaced whenever cur is set
	jobs     map[uint32]*jobState
	inflight int               // calls that may return a job that is not in jobs yet
	ended    map[uint32]string // results seen while inflight > 0
	watches  map[*Watch]struct{}
	wake     chan struct{} // cap 1: the keeper looks up everything open
}

// Dial connects to the service manager. It prefers the system bus, which
// outlives a daemon-reexec, and falls back to the private socket. Close must
// be called; ctx bounds the dialling only.
func Dial(ctx context.Context, o Options) (*Manager, error) {
	if o.SystemBus == "" {
		o.SystemBus = DefaultSystemBus
	}
	if o.Private == "" {
		o.Private = DefaultPrivate
	}
	m := &Manager{
		opts:    o,
		log:     o.Logger,
		changed: make(chan struct{}),
		jobs:    map[uint32]*jobState{},
		ended:   map[uint32]string{},
		watches: map[*Watch]struct{}{},
		wake:    make(chan struct{}, 1),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	l, err := m.dial(ctx)
	for try := 1; try < 5 && ctx.Err() == nil && cutOff(err); try++ {
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
		l, err = m.dial(ctx)
	}
	if err != nil {
		m.cancel()
		return nil, err
	}
	m.cur = l
	m.keeper.Add(1)
	go m.keep(l)
	return m, nil
}

// cutOff says that the other end went away while we connected, as PID 1 does
// when it executes itself anew.
func cutOff(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}

// Close ends the connection. Jobs that are still awaited report ErrClosed.
func (m *Manager) Close() error {
	m.cancel()
	m.keeper.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, j := range m.jobs {
		j.finish("", ErrClosed)
		delete(m.jobs, id)
	}
	for w := range m.watches {
		w.notify()
	}
	return nil
}

// keep holds a connection until Close, and looks up what is awaited whenever
// an event may have been missed.
func (m *Manager) keep(l *link) {
	defer m.keeper.Done()
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			l.close()
			return
		case <-l.lost():
			m.log.Info("lost the connection to systemd")
			l.close()
			if l = m.redial(); l == nil {
				return
			}
			m.recheck(l)
			m.notifyAll()
		case <-m.wake:
			m.resubscribe(l)
			m.recheck(l)
			m.notifyAll()
		case <-tick.C:
			m.recheck(l)
		}
	}
}

// resubscribe follows a change of the bus name's owner.
func (m *Manager) resubscribe(l *link) {
	ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
	defer cancel()
	if err := l.subscribe(ctx); err != nil {
		m.log.Warn("cannot subscribe to systemd's signals", "err", err)
	}
}

// redial connects again, however long that takes; nil means Close.
func (m *Manager) redial() *link {
	m.mu.Lock()
	m.cur = nil
	m.mu.Unlock()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
		l, err := m.dial(ctx)
		cancel()
		if err == nil {
			m.mu.Lock()
			m.cur = l
			close(m.changed)
			m.changed = make(chan struct{})
			m.mu.Unlock()
			return l
		}
		m.log.Debug("cannot connect to systemd yet", "err", err)
		select {
		case <-m.ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// link returns the connection, waiting for one to be made again.
func (m *Manager) link(ctx context.Context) (*link, error) {
	for {
		m.mu.Lock()
		l, changed := m.cur, m.changed
		m.mu.Unlock()
		if l != nil && l.bus.Connected() {
			return l, nil
		}
		select {
		case <-changed: // the keeper has replaced it
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// again runs a call that may safely be made twice, anew if the connection is
// lost under it.
func (m *Manager) again(ctx context.Context, call func(l *link) error) error {
	for {
		l, err := m.link(ctx)
		if err != nil {
			return err
		}
		answered := l.nudge(m.log)
		err = convert(call(l))
		answered()
		if !l.isLost(ctx, err) {
			return err
		}
	}
}

// deliver handles one signal. It runs in the connection's reader and must not
// block nor call.
func (m *Manager) deliver(s *dbus.Signal) {
	switch s.Name {
	case "org.freedesktop.systemd1.Manager.JobRemoved":
		var id uint32
		var job dbus.ObjectPath
		var unit, result string
		if dbus.Store(s.Body, &id, &job, &unit, &result) != nil {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if j := m.jobs[id]; j != nil {
			delete(m.jobs, id)
			j.finish(result, nil)
		} else if m.inflight > 0 {
			m.ended[id] = result
		}
		m.notifyLocked(unitPath(unit))
	case "org.freedesktop.DBus.Properties.PropertiesChanged":
		m.mu.Lock()
		defer m.mu.Unlock()
		m.notifyLocked(s.Path)
	case "org.freedesktop.DBus.NameOwnerChanged":
		var name, before, after string
		if dbus.Store(s.Body, &name, &before, &after) == nil && name == busName && after != "" {
			m.poke()
		}
	}
}

// poke makes the keeper look up everything that is open.
func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

const (
	busName    = "org.freedesktop.systemd1"
	managerObj = dbus.ObjectPath("/org/freedesktop/systemd1")
	unitRoot   = string(managerObj) + "/unit/"
	managerIfc = "org.freedesktop.systemd1.Manager"
)

func unitPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath(unitRoot + sd.PathBusEscape(name))
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("the connection to systemd is closed")
