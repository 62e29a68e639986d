// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net/http"
)

// Handle answers a request as if it had come from a peer, without a connection.
func (d *Daemon) Handle(w http.ResponseWriter, r *http.Request, p Peer) {
	d.server.Handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, p)))
}
