// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"io"
	"net/http"
	"strconv"

	"endured/client"
	"endured/snap"
)

// postDownload sends a revision's file as the store has it. Whoever gets it
// verifies it, by the hash in the header.
func postDownload(c *call) *response {
	var r client.DownloadRequest
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	if err := snap.CheckName(r.Snap); err != nil {
		return badRequest("cannot download: %v", err)
	}
	rev, resp := revision(r.Revision)
	switch {
	case resp != nil:
		return resp
	case rev.Local():
		return badRequest("cannot download revision %s of snap %q: it is a local one", rev, r.Snap)
	case r.ResumeToken != "" || c.Header.Get("Range") != "":
		return badRequest("cannot go on with a download: begin it anew")
	}
	offer, file, err := c.d.backend.Download(c.Context(), r.Snap, r.Channel, rev)
	if err != nil {
		return failure(err)
	}
	return &response{typ: "stream", status: http.StatusOK, harmless: true, stream: func(w http.ResponseWriter) {
		defer file.Close()
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Length", strconv.FormatInt(offer.Size, 10))
		h.Set("Content-Disposition", "attachment; filename="+offer.Name+"_"+offer.Revision.String()+".snap")
		h.Set("Snap-Sha3-384", offer.SHA3)
		w.WriteHeader(http.StatusOK)
		if r.HeaderPeek {
			return
		}
		if _, err := io.CopyN(w, file, offer.Size); err != nil {
			c.d.options.Log.Debug("a download ended", "err", err)
		}
	}}
}
