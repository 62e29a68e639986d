// SPDX-License-Identifier: Apache-2.0

// Package client speaks the daemon's REST API over its unix socket, and owns
// the types of the wire: the daemon answers with the types that are declared
// here. The API is snapd's; what endured adds to it is marked "additive".
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// DefaultSocket is where the daemon listens.
const DefaultSocket = "/run/snapd.socket"

// Config says how to reach the daemon. The zero value is the system's daemon.
type Config struct {
	// Socket is the path of the daemon's socket; "" is DefaultSocket.
	Socket string
	// UserAgent is sent with every request if set.
	UserAgent string
	// Interactive tells the daemon that a user can be asked for a password.
	Interactive bool
	// Patience is how long a GET that finds no daemon is tried again: the daemon
	// may be restarting. 0 is ten seconds. Requests that change something are
	// sent once.
	Patience time.Duration
}

// Client is a connection to the daemon. It may be used by several goroutines.
type Client struct {
	config Config
	http   *http.Client

	mu       sync.Mutex
	warnings WarningsSummary
}

// WarningsSummary is what every answer of the daemon says about warnings.
type WarningsSummary struct {
	Count int       // not yet acknowledged
	Last  time.Time // when the newest was added; zero when there is none
}

const (
	defaultPatience = 10 * time.Second
	waitPatience    = 2 * time.Minute
	retryEvery      = 250 * time.Millisecond
)

// New returns a client. It does not connect yet.
func New(c Config) *Client {
	if c.Socket == "" {
		c.Socket = DefaultSocket
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		},
		DisableCompression: true,
	}
	return &Client{config: c, http: &http.Client{Transport: transport}}
}

// WarningsSummary returns what the last answer said about warnings.
func (c *Client) WarningsSummary() WarningsSummary {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.warnings
}

// Envelope is the outer object of every answer.
type Envelope struct {
	Type       string          `json:"type"` // "sync", "async" or "error"
	StatusCode int             `json:"status-code"`
	Status     string          `json:"status"`
	Result     json.RawMessage `json:"result"`
	Change     string          `json:"change,omitempty"` // of "async"

	WarningCount     int        `json:"warning-count,omitempty"`
	WarningTimestamp *time.Time `json:"warning-timestamp,omitempty"`
}

// request is one call: a body is either JSON (value) or a stream.
type request struct {
	method, path string
	query        url.Values
	value        any
	stream       io.Reader
	contentType  string
	patience     time.Duration
}

// get makes a GET and decodes the result into v.
func (c *Client) get(ctx context.Context, path string, query url.Values, v any) error {
	_, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query, patience: c.config.Patience}, v)
	return err
}

// post sends value as JSON and decodes the result of a sync answer into v.
func (c *Client) post(ctx context.Context, path string, value, v any) error {
	_, err := c.do(ctx, request{method: http.MethodPost, path: path, value: value}, v)
	return err
}

// start sends value as JSON and returns the change that the daemon began.
func (c *Client) start(ctx context.Context, path string, value any) (changeID string, err error) {
	return c.async(c.do(ctx, request{method: http.MethodPost, path: path, value: value}, nil))
}

func (c *Client) async(e *Envelope, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if e.Type != "async" || e.Change == "" {
		return "", fmt.Errorf("cannot understand the daemon: expected a change, got %q", e.Type)
	}
	return e.Change, nil
}

// do makes a request, trying a GET again while there is no daemon.
func (c *Client) do(ctx context.Context, r request, v any) (*Envelope, error) {
	deadline := time.Now().Add(r.patience)
	for {
		e, err := c.once(ctx, r, v)
		var down *ConnectError
		if r.method != http.MethodGet || !errors.As(err, &down) || time.Now().After(deadline) {
			return e, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(retryEvery):
		}
	}
}

// once makes a request a single time.
func (c *Client) once(ctx context.Context, r request, v any) (*Envelope, error) {
	body, contentType := r.stream, r.contentType
	if r.value != nil {
		b, err := json.Marshal(r.value)
		if err != nil {
			return nil, fmt.Errorf("cannot encode request: %w", err)
		}
		body, contentType = bytes.NewReader(b), "application/json"
	}
	u := url.URL{Scheme: "http", Host: "localhost", Path: r.path, RawQuery: r.query.Encode()}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("cannot make request: %w", err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.config.UserAgent != "" {
		req.Header.Set("User-Agent", c.config.UserAgent)
	}
	if c.config.Interactive {
		req.Header.Set("X-Allow-Interaction", "true")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, connectionError(ctx, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, connectionError(ctx, err)
	}
	return c.decode(resp, raw, v)
}

// connectionError tells a daemon that cannot be reached from other failures.
func connectionError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var op *net.OpError
	if errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return &ConnectError{Err: err}
	}
	return fmt.Errorf("cannot communicate with the daemon: %w", err)
}

func (c *Client) decode(resp *http.Response, raw []byte, v any) (*Envelope, error) {
	var e Envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("cannot understand the daemon (%s): %w", resp.Status, err)
	}
	c.note(&e)
	if e.Type == "error" || resp.StatusCode >= 400 {
		return nil, errorOf(resp, &e)
	}
	if v == nil || e.Type == "async" {
		return &e, nil
	}
	if err := json.Unmarshal(e.Result, v); err != nil {
		return nil, fmt.Errorf("cannot understand the daemon: %w", err)
	}
	return &e, nil
}

func (c *Client) note(e *Envelope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = WarningsSummary{Count: e.WarningCount}
	if e.WarningTimestamp != nil {
		c.warnings.Last = *e.WarningTimestamp
	}
}

// Version is the version of this client, and of the daemon it is built with.
const Version = "0.1.0"
