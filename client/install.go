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
	// Together is for several files: all of them or none.
	Together bool `json:"-"`
}

// fields returns the form fields of an upload, in the order of snapd's client.
// path is "" for several files.
func (o InstallOptions) fields(path string) [][2]string {
	out := [][2]string{{"action", "install"}}
	if path != "" {
		out = append(out, [2]string{"snap-path", path})
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"devmode", o.DevMode}, {"classic", o.Classic}, {"jailmode", o.JailMode}, {"dangerous", o.Dangerous}} {
		if f.set {
			out = append(out, [2]string{f.name, "true"})
		}
	}
	if o.Together {
		return append(out, [2]string{"transaction", "all-snaps"})
	}
	return append(out, [2]string{"transaction", "per-snap"})
}

// InstallFile uploads a .snap file and starts its installation. sent, if not
// nil, is called with the bytes sent so far.
func (c *Client) InstallFile(ctx context.Context, path string, o InstallOptions, sent func(done, total int64)) (changeID string, err error) {
	var report func(string, int64, int64)
	if sent != nil {
		report = func(_ string, done, total int64) { sent(done, total) }
	}
	return c.InstallFiles(ctx, []string{path}, o, report)
}

// InstallFiles uploads .snap files and starts their installation, in one
// change. sent, if not nil, is called with the path of the file that is being
// sent and the bytes of it sent so far.
func (c *Client) InstallFiles(ctx context.Context, paths []string, o InstallOptions, sent func(path string, done, total int64)) (changeID string, err error) {
	var parts []filePart
	for _, path := range paths {
		p, err := openPart(path, sent)
		if err != nil {
			return "", err
		}
		defer p.file.Close()
		parts = append(parts, p)
	}
	typed := ""
	if len(paths) == 1 {
		typed = paths[0]
	}
	body, pipe := io.Pipe()
	form := multipart.NewWriter(pipe)
	go func() { pipe.CloseWithError(writeForm(form, o.fields(typed), parts)) }()
	defer body.Close()
	return c.async(c.do(ctx, request{
		method: http.MethodPost, path: "/v2/snaps",
		stream: body, contentType: form.FormDataContentType(),
	}, nil))
}

// filePart is a file to upload.
type filePart struct {
	name string
	file *os.File
	src  io.Reader
}

func openPart(path string, sent func(path string, done, total int64)) (filePart, error) {
	// nonblocking: a FIFO would wait for a writer
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return filePart{}, fmt.Errorf("cannot open %q: %w", path, err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		f.Close()
		return filePart{}, fmt.Errorf("cannot install %q: not a file", path)
	}
	if err != nil {
		f.Close()
		return filePart{}, fmt.Errorf("cannot open %q: %w", path, err)
	}
	p := filePart{name: filepath.Base(path), file: f, src: f}
	if sent != nil {
		p.src = &countingReader{r: f, total: fi.Size(), report: func(done, total int64) { sent(path, done, total) }}
	}
	return p, nil
}

func writeForm(form *multipart.Writer, fields [][2]string, files []filePart) error {
	for _, f := range fields {
		if err := form.WriteField(f[0], f[1]); err != nil {
			return err
		}
	}
	for _, f := range files {
		part, err := form.CreateFormFile("snap", f.name)
		if err != nil {
			return err
		}
		if _, err := io.Copy(part, f.src); err != nil {
			return err
		}
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
