// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// link is one connection. go-systemd and raw calls share it.
type link struct {
	bus     *dbus.Conn
	sd      *sd.Conn
	onBus   bool // through dbus-daemon
	sock    net.Conn
	private string // see knock; "" for none
	// asking is held by who has many calls unanswered at once.
	asking sync.Mutex
}

func (l *link) lost() <-chan struct{} { return l.bus.Context().Done() }

func (l *link) close() { l.bus.Close() }

// isLost says whether err came from the connection and not from the other
// end. A lost connection is closed, so that it is replaced.
func (l *link) isLost(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var e *Error
	if errors.As(err, &e) {
		if !e.nobody() {
			return false
		}
		l.close()
		return true
	}
	var op *net.OpError
	if l.bus.Connected() && !errors.As(err, &op) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	l.close()
	return true
}

// call makes a raw method call on the manager object.
func (l *link) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return l.bus.Object(busName, managerObj).CallWithContext(ctx, managerIfc+"."+method, 0, args...)
}

// dial makes a connection that delivers signals.
func (m *Manager) dial(ctx context.Context) (*link, error) {
	if m.opts.DialFunc != nil {
		return m.dialOne(ctx, m.opts.DialFunc, false)
	}
	var errs []error
	for _, way := range []struct {
		path  string
		onBus bool
	}{{m.opts.SystemBus, true}, {m.opts.Private, false}} {
		if way.path == "-" {
			continue
		}
		l, err := m.dialOne(ctx, func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", way.path)
		}, way.onBus)
		if err == nil {
			return l, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("cannot connect to systemd: %w", errors.Join(errs...))
}

func (m *Manager) dialOne(ctx context.Context, dial func(context.Context) (net.Conn, error), onBus bool) (*link, error) {
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	bus, err := dbus.NewConn(&buffered{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, dbus.WithContext(m.ctx), dbus.WithSignalHandler(&inOrder{deliver: m.deliver}))
	if err != nil {
		c.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { bus.Close() })
	defer stop()
	l := &link{bus: bus, onBus: onBus, sock: c}
	if m.opts.DialFunc == nil && m.opts.Private != "-" {
		l.private = m.opts.Private
	}
	if err := l.open(ctx); err != nil {
		bus.Close()
		return nil, err
	}
	return l, nil
}

// buffered saves godbus' many small reads of each message a system call each.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// open authenticates and subscribes.
func (l *link) open(ctx context.Context) error {
	// The uid, not the user's name: looking that up may need libc.
	if err := l.bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		return err
	}
	if l.onBus {
		if err := l.bus.Hello(); err != nil {
			return err
		}
		for _, match := range []string{
			"type='signal',sender='" + busName + "',interface='" + managerIfc + "',member='JobRemoved'",
			"type='signal',sender='" + busName + "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',path_namespace='" + string(managerObj) + "/unit'",
			"type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" + busName + "'",
		} {
			if err := l.bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.AddMatch", 0, match).Err; err != nil {
				return err
			}
		}
	} else if err := l.rouse(ctx); err != nil {
		return err
	}
	if err := l.subscribe(ctx); err != nil {
		return err
	}
	var err error
	l.sd, err = sd.NewConnection(func() (*dbus.Conn, error) { return l.bus, nil })
	return err
}

// rouse gets the first answer on the private socket. PID 1 (seen in 252) does
// not look at a message that it has read together with the end of the
// handshake until a further one arrives, so one is sent until it answers.
func (l *link) rouse(ctx context.Context) error {
	const ping = "org.freedesktop.DBus.Peer.Ping"
	o := l.bus.Object(busName, managerObj)
	first := o.GoWithContext(ctx, ping, 0, make(chan *dbus.Call, 1))
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		select {
		case <-first.Done:
			return first.Err
		case <-time.After(wait):
			o.GoWithContext(ctx, ping, dbus.FlagNoReplyExpected, nil)
		}
	}
}

// nudgeAfter is when a call that has had no answer makes PID 1 look again.
const nudgeAfter = time.Second

// nudge is called before a call and what it returns after it. PID 1 (seen in
// 252) can leave messages that it has read alone for a minute: see rouse, and
// after a burst of mounts, for which it slows itself down, it now and then goes
// to sleep without the timer by which it would come back to them. While it has
// such messages it does not look at the connection either. So a call that waits
// is followed by messages that want no answer, and by something else that wakes
// it: somebody at the door of its private socket.
func (l *link) nudge(log *slog.Logger) (answered func()) {
	done := make(chan struct{})
	began := time.Now()
	t := time.AfterFunc(nudgeAfter, func() {
		tick := time.NewTicker(nudgeAfter)
		defer tick.Stop()
		for n := 1; ; n++ {
			l.bus.Object(busName, managerObj).Go("org.freedesktop.DBus.Peer.Ping", dbus.FlagNoReplyExpected, nil)
			l.knock()
			select {
			case <-done:
				log.Info("systemd was slow to answer", "took", time.Since(began))
				return
			case <-tick.C:
			}
			if n == tellAfter {
				log.Warn("systemd does not answer", append([]any{"since", time.Since(began)}, l.sight()...)...)
			}
		}
	})
	return func() {
		t.Stop()
		close(done)
	}
}

// knock connects to PID 1's private socket and leaves again.
func (l *link) knock() {
	if l.private == "" {
		return
	}
	if c, err := net.DialTimeout("unix", l.private, nudgeAfter); err == nil {
		c.Close()
	}
}

// tellAfter is after how many nudges the log says what is to be seen.
const tellAfter = 5

// sight is what can be seen of a connection on which nothing comes: what waits
// on its way, and what PID 1 is doing.
func (l *link) sight() []any {
	var out []any
	if sc, ok := l.sock.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				unread, _ := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
				unsent, _ := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
				out = append(out, "unread", unread, "untaken", unsent)
			})
		}
	}
	for _, name := range []string{"wchan", "stack", "stat"} {
		data, err := os.ReadFile("/proc/1/" + name)
		if err == nil {
			out = append(out, name, strings.TrimSpace(string(data)))
		}
	}
	return out
}

// subscribe makes systemd send signals. It is needed once for each start of
// systemd's end of the bus.
func (l *link) subscribe(ctx context.Context) error {
	err := l.call(ctx, "Subscribe").Err
	var e dbus.Error
	if errors.As(err, &e) && e.Name == busName+".AlreadySubscribed" {
		return nil
	}
	return err
}

// inOrder hands each signal on before the next message is read.
type inOrder struct {
	deliver func(*dbus.Signal)
	mu      sync.Mutex
	closed  bool
	chans   []chan<- *dbus.Signal
}

// DeliverSignal implements dbus.SignalHandler.
func (h *inOrder) DeliverSignal(_, _ string, s *dbus.Signal) { h.deliver(s) }

// AddSignal keeps go-systemd's channel, which gets nothing: with no listener
// on its side it would only drop what it reads. It is closed with the
// connection, so that go-systemd's goroutine ends.
func (h *inOrder) AddSignal(ch chan<- *dbus.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(ch)
		return
	}
	h.chans = append(h.chans, ch)
}

// RemoveSignal implements dbus.SignalRegistrar.
func (h *inOrder) RemoveSignal(chan<- *dbus.Signal) {}

// Terminate implements dbus.Terminator.
func (h *inOrder) Terminate() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, ch := range h.chans {
		close(ch)
	}
	h.chans = nil
}
