// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Log is one line that a service has logged.
type Log struct {
	Timestamp time.Time `json:"timestamp"`
	Message   string    `json:"message"`
	SID       string    `json:"sid"` // the syslog identifier, such as web.server
	PID       string    `json:"pid"`
}

// String is the line as the journal shows it, with the time in RFC 3339.
func (l Log) String() string {
	return fmt.Sprintf("%s %s[%s]: %s", l.Timestamp.Format(time.RFC3339), l.SID, l.PID, l.Message)
}

// Logs calls each for the last n lines (n < 0 is all) of services ("snap" or
// "snap.service", none is all), oldest first, and with follow for those to
// come, until ctx ends or each returns an error, which is returned.
func (c *Client) Logs(ctx context.Context, names []string, n int, follow bool, each func(Log) error) error {
	q := url.Values{"n": {strconv.Itoa(n)}}
	if len(names) > 0 {
		q.Set("names", strings.Join(names, ","))
	}
	if follow {
		q.Set("follow", "true")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v2/logs?"+q.Encode(), nil)
	if err != nil {
		return fmt.Errorf("cannot make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return connectionError(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			return connectionError(ctx, err)
		}
		_, err = c.decode(resp, raw, nil)
		return err
	}
	r := bufio.NewReader(resp.Body)
	for {
		record, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return connectionError(ctx, err)
		}
		var l Log
		if err := json.Unmarshal(bytes.TrimLeft(record, "\x1e"), &l); err != nil {
			return fmt.Errorf("cannot understand the daemon: %w", err)
		}
		if err := each(l); err != nil {
			return err
		}
	}
}
