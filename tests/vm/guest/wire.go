// SPDX-License-Identifier: Apache-2.0

// Package guest is what runs inside a VM: first as the initial ramdisk's init,
// which mounts the root, then as the agent, which runs commands for the host.
// Both speak the protocol of this file on one TCP port, a connection for each
// request.
package guest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
)

// Port is where the guest listens.
const Port = 7777

// A frame is a kind, the length of its payload in four bytes, big end first, and the payload. The host begins with
// Request; the guest ends with Reply.
const (
	Request = 'R' // JSON: Call
	Stdin   = 'I' // bytes; none of them is the end of the input
	Signal  = 'S' // one byte, the number, for the command
	Stdout  = 'O'
	Stderr  = 'E'
	Reply   = 'X' // JSON: Answer
)

// maxFrame is more than any frame has: files of a Call are scripts.
const maxFrame = 16 << 20

// Verbs of a Call.
const (
	Hello = "hello" // sets clock and randomness; answers who is there
	Boot  = "boot"  // has init go on to mount the root
	Exec  = "exec"  // runs a command
	Kill  = "kill"  // kills every process of a group
)

// Call is a request.
type Call struct {
	Verb string `json:"verb"`

	Time int64  `json:"time,omitempty"` // Hello: of the host, nanoseconds since 1970
	Seed []byte `json:"seed,omitempty"` // Hello: a resumed guest would have the same random numbers each time

	Argv  []string          `json:"argv,omitempty"`
	Dir   string            `json:"dir,omitempty"`
	Env   []string          `json:"env,omitempty"`
	Group string            `json:"group,omitempty"` // Exec, Kill
	Files map[string][]byte `json:"files,omitempty"` // written before the command starts, by path
}

// Answer ends a request.
type Answer struct {
	Who   string `json:"who,omitempty"`   // Hello: "init" or "agent"
	Code  int    `json:"code,omitempty"`  // Exec: exit status, 128 and the signal for a command that one ended
	Error string `json:"error,omitempty"` // of the request itself
}

// Conn writes whole frames from several goroutines.
type Conn struct {
	net.Conn
	mu sync.Mutex
}

// Send sends a frame.
func (c *Conn) Send(kind byte, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	buf := make([]byte, 5, 5+len(payload))
	buf[0] = kind
	binary.BigEndian.PutUint32(buf[1:], uint32(len(payload)))
	_, err := c.Conn.Write(append(buf, payload...))
	return err
}

// SendJSON sends a frame that holds v.
func (c *Conn) SendJSON(kind byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.Send(kind, data)
}

// Receive reads a frame.
func (c *Conn) Receive() (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("cannot take a frame of %d bytes", n)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(c.Conn, payload); err != nil {
		return 0, nil, err
	}
	return head[0], payload, nil
}

// Writer returns a writer whose bytes become frames of one kind.
func (c *Conn) Writer(kind byte) io.Writer { return frameWriter{c, kind} }

type frameWriter struct {
	conn *Conn
	kind byte
}

func (w frameWriter) Write(p []byte) (int, error) {
	const most = 64 << 10
	for sent := 0; sent < len(p); {
		n := min(most, len(p)-sent)
		if err := w.conn.Send(w.kind, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}
