// SPDX-License-Identifier: Apache-2.0

// Package daemon answers the REST API on unix sockets. The API is snapd's, so
// that existing clients work; what is added to it is additive. One table holds
// the routes, with who may use each of them; the work is the Backend's.
package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"endured/dirs"
)

// Options are what a Daemon depends on besides its Backend.
type Options struct {
	Dirs dirs.Dirs
	// Log gets one line per request: at debug level for those that change
	// nothing. nil discards.
	Log *slog.Logger
	// Version is the daemon's own version.
	Version string
	// Journalctl is the program that reads the journal; "" is journalctl.
	Journalctl string
	// Peer tells who is at the other end of a connection; nil asks the kernel.
	Peer func(net.Conn) (Peer, error)
}

// Daemon serves the API.
type Daemon struct {
	backend  Backend
	options  Options
	server   *http.Server
	stopping chan struct{} // closed by Shutdown: ends the long waits
	stopOnce sync.Once
}

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// bodyTimeout bounds the time between two reads of a request's body.
	bodyTimeout   = 30 * time.Second
	drainTimeout  = 10 * time.Second
	maxHeaderSize = 64 << 10
)

// New makes a daemon. It serves nothing yet.
func New(b Backend, o Options) *Daemon {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Journalctl == "" {
		o.Journalctl = "journalctl"
	}
	if o.Peer == nil {
		o.Peer = kernelPeer
	}
	d := &Daemon{backend: b, options: o, stopping: make(chan struct{})}
	d.server = &http.Server{
		Handler:           d.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderSize,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return d
}

// Serve answers requests on the listeners until Shutdown, and then returns
// nil; or until one of them fails, and then returns its error.
func (d *Daemon) Serve(listeners ...net.Listener) error {
	if len(listeners) == 0 {
		return errors.New("cannot serve: no listener")
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		pl := newPeerListener(l, d.options.Peer, d.options.Log)
		go func() { failed <- d.server.Serve(pl) }()
	}
	var first error
	for range listeners {
		if err := <-failed; err != nil && !errors.Is(err, http.ErrServerClosed) && first == nil {
			first = err
			d.server.Close()
		}
	}
	return first
}

// Shutdown lets requests finish, ends the waits for changes, and makes Serve
// return. When ctx ends first the remaining connections are cut.
func (d *Daemon) Shutdown(ctx context.Context) error {
	d.stopOnce.Do(func() { close(d.stopping) })
	err := d.server.Shutdown(ctx)
	if err != nil {
		d.server.Close()
	}
	return err
}

// call is one request as a handler sees it.
type call struct {
	*http.Request
	d    *Daemon
	peer Peer
}

// root tells whether the caller may see what is for uid 0 only: process ids,
// paths and logs.
func (c *call) root() bool { return c.peer.UID == 0 }

// handler is the API as an http.Handler.
func (d *Daemon) handler() http.Handler {
	mux := http.NewServeMux()
	for path, row := range byPath(routes()) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, row) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		d.serve(w, r, nil)
	})
	return mux
}

// serve answers one request: row holds the routes of its path by method.
func (d *Daemon) serve(w http.ResponseWriter, r *http.Request, row map[string]route) {
	began := time.Now()
	peer, known := peerOf(r.Context())
	control := http.NewResponseController(w)
	r.Body = &pacedBody{ReadCloser: r.Body, control: control}
	c := &call{Request: r, d: d, peer: peer}

	rt, ok := row[r.Method]
	var resp *response
	switch {
	case row == nil:
		resp = failed(http.StatusNotFound, "", "not found")
	case !ok:
		resp = failed(http.StatusMethodNotAllowed, "", "method "+quoted(r.Method)+" not allowed")
	case !known:
		resp = denied(http.StatusForbidden)
	default:
		if resp = rt.access.check(peer); resp == nil {
			resp = c.refuseConfined()
		}
		if resp == nil {
			resp = rt.handler(c)
		}
	}
	if resp.typ == "error" {
		drain(r.Body)
	}
	if resp.stream != nil {
		resp.stream(w)
	} else {
		d.reply(w, resp)
	}

	level := slog.LevelInfo
	if r.Method == http.MethodGet || resp.harmless {
		level = slog.LevelDebug
	}
	d.options.Log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path,
		"status", resp.status, "change", resp.change, "uid", peer.UID, "pid", peer.PID, "took", time.Since(began))
}

// drain reads what is left of a request that was refused: a client that still
// sends does not read the answer.
func drain(body io.Reader) {
	buf := make([]byte, 64<<10)
	for end := time.Now().Add(drainTimeout); time.Now().Before(end); {
		if _, err := body.Read(buf); err != nil {
			return
		}
	}
}

// pacedBody is a body whose sender must not pause for longer than bodyTimeout.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *pacedBody) Read(p []byte) (int, error) {
	// A connection without deadlines (a test's recorder) is read as it is.
	_ = b.control.SetReadDeadline(time.Now().Add(bodyTimeout))
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
