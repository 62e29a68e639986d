// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"endured/client"
)

// response is an answer before it is put into the envelope.
type response struct {
	typ    string // "sync", "async" or "error"
	status int
	result any
	change string // of "async"
	// stream, of type "stream", answers instead.
	stream func(w http.ResponseWriter)
	// harmless tells that a request other than GET changed nothing.
	harmless bool
}

// sync answers with a result.
func sync200(result any) *response {
	return &response{typ: "sync", status: http.StatusOK, result: result}
}

// async answers with the change that was begun, or with what kept it from it.
func async(changeID string, err error) *response {
	if err != nil {
		return failure(err)
	}
	return &response{typ: "async", status: http.StatusAccepted, change: changeID}
}

// failed answers with a refusal; kind may be "".
func failed(status int, kind, message string) *response {
	return &response{typ: "error", status: status, result: &client.Error{Kind: kind, Message: message}, harmless: true}
}

func badRequest(format string, args ...any) *response {
	return failed(http.StatusBadRequest, "", fmt.Sprintf(format, args...))
}

// badSelect refuses a query's select=, and names what it may be.
func badSelect(got string, allowed ...string) *response {
	return badRequest("cannot use select=%q: want %s or leave it out", got, strings.Join(allowed, ", "))
}

func denied(status int) *response {
	return failed(status, client.KindLoginRequired, "access denied")
}

func quoted(s string) string { return strconv.Quote(s) }

// reply sends a response. The envelope also says whether there are warnings.
func (d *Daemon) reply(w http.ResponseWriter, r *response) {
	e := client.Envelope{Type: r.typ, StatusCode: r.status, Status: http.StatusText(r.status), Change: r.change}
	raw, err := json.Marshal(r.result)
	if err != nil {
		d.options.Log.Error("cannot encode an answer", "err", err)
		e = client.Envelope{Type: "error", StatusCode: http.StatusInternalServerError, Status: "Internal Server Error"}
		raw = []byte(`{"message":"cannot encode the answer"}`)
	}
	e.Result = raw
	count, last := d.warningsSummary()
	if e.WarningCount = count; count > 0 {
		e.WarningTimestamp = &last
	}
	body, err := json.Marshal(&e)
	if err != nil { // cannot be: raw is JSON
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(e.StatusCode)
	_, _ = w.Write(append(body, '\n')) // a client that went away needs no answer
}

// maxJSON is the largest body of a JSON request, in bytes.
const maxJSON = 1 << 20

// decodeBody reads a request's JSON body into v.
func decodeBody(c *call, v any) *response {
	raw, err := io.ReadAll(http.MaxBytesReader(nil, c.Body, maxJSON))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return failed(http.StatusRequestEntityTooLarge, "", fmt.Sprintf("cannot read request: more than %d bytes", maxJSON))
	case err != nil:
		return badRequest("cannot read request: %v", err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return badRequest("cannot read the request as JSON: %v", err)
	}
	return nil
}
