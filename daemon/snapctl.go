// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/http"

	"endured/client"
)

// postSnapctl carries out what a program of a snap asks for. Who that is,
// follows from the process at the other end; nothing in the request, such as a
// cookie, tells it.
func postSnapctl(c *call) *response {
	var r client.SnapctlRequest
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	if err := stillThere(c.peer); err != nil {
		return failed(http.StatusForbidden, "", err.Error())
	}
	who, err := c.d.backend.Identify(c.peer.PID)
	if err != nil {
		return failed(http.StatusForbidden, "", err.Error())
	}
	if p := c.peer.Process; p != nil {
		if err := p.Signal(0); err != nil { // what was looked at may have been another's
			return failed(http.StatusForbidden, "", fmt.Sprintf("cannot use snapctl: %v", err))
		}
	}
	who.UID = c.peer.UID
	a, err := c.d.backend.Snapctl(c.Context(), who, r.Args)
	if err != nil {
		return failure(err)
	}
	if a.ExitCode != 0 {
		return &response{typ: "error", status: http.StatusOK, harmless: true, result: &client.Error{
			Kind: client.KindUnsuccessful, Message: fmt.Sprintf("snapctl ended with status %d", a.ExitCode),
			Value: client.SnapctlResult{Stdout: a.Stdout, Stderr: a.Stderr, ExitCode: a.ExitCode},
		}}
	}
	return sync200(client.SnapctlResult{Stdout: a.Stdout, Stderr: a.Stderr})
}

// refuseConfined keeps programs of strictly confined snaps from the socket
// that is not for them. Their profile says the same, where the kernel asks it
// about connections.
func (c *call) refuseConfined() *response {
	if c.peer.FromSnaps || c.peer.PID <= 0 {
		return nil
	}
	name, err := c.d.backend.Confined(c.peer.PID)
	if err != nil {
		return failed(http.StatusForbidden, "", err.Error())
	}
	if name != "" {
		return failed(http.StatusForbidden, "", fmt.Sprintf("programs of snap %q are confined and cannot use snapd's socket; snapctl is for them", name))
	}
	return nil
}
