// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	"endured/client"
	"endured/overlord/snapstate"
)

const (
	// recordSeparator precedes every record of a JSON text sequence (RFC 7464).
	recordSeparator = 0x1e
	// longestLine is how much of a journal entry is read, in bytes.
	longestLine = 1 << 20
)

// getLogs streams what services have logged, oldest line first, as a JSON text
// sequence; with follow=true it goes on until the client leaves.
func getLogs(c *call) *response {
	q := c.URL.Query()
	n := 10
	if s := q.Get("n"); s != "" {
		v, err := strconv.ParseInt(s, 0, 32)
		if err != nil {
			return badRequest("cannot show n=%q lines: want a number, or -1 for all", s)
		}
		n = int(v)
	}
	follow := false
	if s := q.Get("follow"); s != "" {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return badRequest("cannot use follow=%q: want true or false", s)
		}
		follow = v
	}
	args, resp := journalArguments(c, commaList(q.Get("names")))
	if resp != nil {
		return resp
	}
	args = append(args, "--output=json", "--no-pager", "--quiet", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID")
	if n < 0 {
		args = append(args, "--no-tail")
	} else {
		args = append(args, fmt.Sprintf("--lines=%d", n))
	}
	if follow {
		args = append(args, "--follow")
	}
	return &response{typ: "stream", status: http.StatusOK, stream: func(w http.ResponseWriter) { c.sendLogs(w, args) }}
}

// journalArguments selects the services that are named, or all, with what
// refreshes left running of them.
func journalArguments(c *call, names []string) ([]string, *response) {
	services, err := c.d.backend.ServiceViews(c.Context(), names)
	if err != nil {
		return nil, appsFailure(err)
	}
	var args []string
	for _, s := range services {
		unit := "snap." + s.Snap + "." + s.App
		args = append(args, "--unit="+unit+".service", "--unit="+unit+"-r*.scope")
	}
	if len(args) == 0 {
		if len(names) > 0 {
			return nil, failure(&snapstate.AppNotFoundError{Snap: names[0]})
		}
		return nil, failed(http.StatusNotFound, client.KindAppNotFound, "cannot show logs: no snap has a service")
	}
	return args, nil
}

// sendLogs runs journalctl and passes on what it says.
func (c *call) sendLogs(w http.ResponseWriter, args []string) {
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	go func() {
		select {
		case <-c.d.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	cmd := exec.CommandContext(ctx, c.d.options.Journalctl, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		c.d.reply(w, failureOr(fmt.Errorf("cannot read the journal: %w", err), http.StatusInternalServerError))
		return
	}
	w.Header().Set("Content-Type", "application/json-seq")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.Flush() // a client that follows sees that it is heard
	err = copyLogs(w, out, control.Flush)
	cancel()
	if werr := cmd.Wait(); err == nil && c.Context().Err() == nil {
		err = werr
	}
	if err != nil && c.Context().Err() == nil {
		c.d.options.Log.Debug("the journal ended", "err", err)
	}
}

// copyLogs turns lines of journalctl into records, and flushes whenever no more
// is waiting.
func copyLogs(w io.Writer, lines io.Reader, flush func() error) error {
	r := bufio.NewReaderSize(lines, longestLine)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.ReadSlice('\n')
			}
			continue
		}
		if err != nil {
			return err
		}
		entry, ok := logEntry(line)
		if !ok {
			continue
		}
		raw, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(append([]byte{recordSeparator}, raw...), '\n')); err != nil {
			return err
		}
		if r.Buffered() == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// logEntry reads an entry as journalctl prints it.
func logEntry(line []byte) (client.Log, bool) {
	var raw map[string]json.RawMessage
	if json.Unmarshal(line, &raw) != nil {
		return client.Log{}, false
	}
	usec, err := strconv.ParseInt(journalText(raw["__REALTIME_TIMESTAMP"]), 10, 64)
	if err != nil {
		return client.Log{}, false
	}
	sid, pid := journalText(raw["SYSLOG_IDENTIFIER"]), journalText(raw["_PID"])
	if sid == "" {
		sid = "-"
	}
	if pid == "" {
		pid = "-"
	}
	return client.Log{Timestamp: time.UnixMicro(usec).UTC(), Message: journalText(raw["MESSAGE"]), SID: sid, PID: pid}, true
}

// journalText reads a field: text, or an array of bytes if it is not UTF-8, or
// several of those, of which the first counts.
func journalText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var numbers []int
	if json.Unmarshal(raw, &numbers) == nil {
		bytes := make([]byte, len(numbers))
		for i, n := range numbers {
			bytes[i] = byte(n)
		}
		return string(bytes)
	}
	var several []json.RawMessage
	if json.Unmarshal(raw, &several) == nil && len(several) > 0 {
		return journalText(several[0])
	}
	return ""
}
