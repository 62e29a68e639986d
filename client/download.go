// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
)

// DownloadRequest is the body of a POST to /v2/download.
type DownloadRequest struct {
	Snap        string `json:"snap-name"`
	Channel     string `json:"channel,omitempty"`
	Revision    string `json:"revision,omitempty"`
	HeaderPeek  bool   `json:"header-peek,omitempty"`
	ResumeToken string `json:"resume-token,omitempty"`
}

// Download is a file that comes from the store.
type Download struct {
	Name string // of the file, without a directory
	Size int64  // in bytes
	SHA3 string // SHA3-384 of the file, in hex: whoever reads Body verifies it
	Body io.ReadCloser
}

// Download asks for the file of a revision in the store. The caller closes Body.
func (c *Client) Download(ctx context.Context, name string, s StoreOptions) (*Download, error) {
	raw, err := json.Marshal(DownloadRequest{Snap: name, Channel: s.Channel, Revision: s.Revision})
	if err != nil {
		return nil, fmt.Errorf("cannot encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v2/download", bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("cannot make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, connectionError(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, connectionError(ctx, err)
		}
		if _, err = c.decode(resp, raw, nil); err == nil {
			err = fmt.Errorf("cannot understand the daemon: status %s", resp.Status)
		}
		return nil, err
	}
	_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
	file := params["filename"]
	if err != nil || file == "" || filepath.Base(file) != file || strings.HasPrefix(file, ".") {
		resp.Body.Close()
		return nil, fmt.Errorf("cannot understand the daemon: the download has no name")
	}
	return &Download{Name: file, Size: resp.ContentLength, SHA3: resp.Header.Get("Snap-Sha3-384"), Body: resp.Body}, nil
}
