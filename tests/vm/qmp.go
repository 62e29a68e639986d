// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// monitor is a connection to QEMU's machine protocol: a JSON object a line, each command answered before the next.
type monitor struct {
	conn  net.Conn
	lines *bufio.Reader
}

// openMonitor connects to the socket at path, once QEMU has made it.
func openMonitor(ctx context.Context, path string) (*monitor, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		m := &monitor{conn: conn, lines: bufio.NewReader(conn)}
		if _, err := m.lines.ReadBytes('\n'); err == nil {
			err = m.do(ctx, "qmp_capabilities", nil, nil)
		}
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("cannot talk to qemu: %w", err)
		}
		return m, nil
	}
}

func (m *monitor) close() { m.conn.Close() }

// do runs a command and decodes what it returns.
func (m *monitor) do(ctx context.Context, command string, args, result any) error {
	defer context.AfterFunc(ctx, func() { m.conn.SetDeadline(time.Unix(1, 0)) })()
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("cannot ask qemu: %w", err)
	}
	for {
		line, err := m.lines.ReadBytes('\n')
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("cannot hear from qemu: %w", err)
		}
		var answer struct {
			Event  string
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("cannot understand qemu: %w", err)
		}
		switch {
		case answer.Event != "":
			continue
		case answer.Error != nil:
			return fmt.Errorf("cannot have qemu do %s: %s", command, answer.Error.Desc)
		case result != nil:
			return json.Unmarshal(answer.Return, result)
		}
		return nil
	}
}

var forward = regexp.MustCompile(`TCP\[HOST_FORWARD\] +\S+ +\S+ +(\d+) `)

// port returns the port on this host behind which the guest's agent is; QEMU chose a free one.
func (m *monitor) port(ctx context.Context) (int, error) {
	var text string
	if err := m.do(ctx, "human-monitor-command", map[string]any{"command-line": "info usernet"}, &text); err != nil {
		return 0, err
	}
	found := forward.FindStringSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("cannot find the forwarded port in %q", text)
	}
	return strconv.Atoi(found[1])
}

// awaitRunning returns when the guest's processors run, after a saved state has been read.
func (m *monitor) awaitRunning(ctx context.Context) error {
	for {
		var s struct{ Status string }
		if err := m.do(ctx, "query-status", nil, &s); err != nil {
			return err
		}
		switch s.Status {
		case "running":
			return nil
		case "inmigrate", "prelaunch":
		case "paused":
			// As it was when its state was saved.
			if err := m.do(ctx, "cont", nil, nil); err != nil {
				return err
			}
			continue
		default:
			return fmt.Errorf("cannot run: qemu is in state %q", s.Status)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// saveState stops the guest and writes its memory and devices to a file.
func (m *monitor) saveState(ctx context.Context, path string) error {
	if err := m.do(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := m.do(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(8) << 30}, nil); err != nil {
		return err
	}
	uri := "exec:cat >'" + strings.ReplaceAll(path, "'", "") + "'"
	if err := m.do(ctx, "migrate", map[string]any{"uri": uri}, nil); err != nil {
		return err
	}
	for {
		var s struct {
			Status string
			Error  string `json:"error-desc"`
		}
		if err := m.do(ctx, "query-migrate", nil, &s); err != nil {
			return err
		}
		switch s.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("cannot save the state: %s %s", s.Status, s.Error)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
