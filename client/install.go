// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

// InstallOptions are how a snap is installed.
type InstallOptions struct {
	Dangerous bool `json:"dangerous,omitempty"` // accept a file without signatures
	DevMode   bool `json:"devmode,omitempty"`
	Classic   bool `json:"classic,omitempty"`
	JailMode  bool `json:"jailmode,omitempty"`
}

// fields returns the form fields of an upload, in the order of snapd's client.
func (o InstallOptions) fields(path string) [][2]string {
	out := [][2]string{{"action", "install"}, {"snap-path", path}}
	for _, f := range []struct {
		name string
		set  bool
	}{{"devmode", o.DevMode}, {"classic", o.Classic}, {"jailmode", o.JailMode}, {"dangerous", o.Dangerous}} {
		if f.set {
			out = append(out, [2]string{f.name, "true"})
		}
	}
	return append(out, [2]string{"transaction", "per-snap"})
}

// InstallFile uploads a .snap file and starts its installation. sent, if not
// nil, is called with the bytes sent so far.
func (c *Client) InstallFile(ctx context.Context, path string, o InstallOptions, sent func(done, total int64)) (changeID string, err error) {
	// nonblocking: a FIFO would wait for a writer
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("cannot open %q: %w", path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot open %q: %w", path, err)
	}
	if !fi.Mode().IsRegular() {
		return "", fmt.Errorf("cannot install %q: not a file", path)
	}
	var src io.Reader = f
	if sent != nil {
		src = &countingReader{r: f, total: fi.Size(), report: sent}
	}

	body, pipe := io.Pipe()
	form := multipart.NewWriter(pipe)
	go func() { pipe.CloseWithError(writeForm(form, o.fields(path), filepath.Base(path), src)) }()
	defer body.Close()
	return c.async(c.do(ctx, request{
		method: http.MethodPost, path: "/v2/snaps",
		stream: body, contentType: form.FormDataContentType(),
	}, nil))
}

func writeForm(form *multipart.Writer, fields [][2]string, filename string, src io.Reader) error {
	for _, f := range fields {
		if err := form.WriteField(f[0], f[1]); err != nil {
			return err
		}
	}
	part, err := form.CreateFormFile("snap", filename)
	if err != nil {
		return err
	}
	if _, err := io.Copy(part, src); err != nil {
		return err
	}
	return form.Close()
}

// countingReader reports how much was read.
type countingReader struct {
	r           io.Reader
	done, total int64
	report      func(done, total int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.report(c.done, c.total)
	return n, err
}

// PlanInstallFile returns what InstallFile would do. The daemon reads the file
// where it is, so the path must be absolute.
func (c *Client) PlanInstallFile(ctx context.Context, path string, o InstallOptions) ([]Plan, error) {
	return c.plan(ctx, "/v2/snaps", SnapRequest{Action: "install", Path: path, DryRun: true, InstallOptions: o})
}
