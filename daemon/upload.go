// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"syscall"

	"endured/client"
	"endured/overlord/recipes"
)

const (
	maxField  = 16 << 10 // bytes of one form field
	maxFields = 96
	maxFiles  = 64
)

// upload is a form with files, which are spooled.
type upload struct {
	fields map[string]string
	files  []recipes.LocalFile // Name is as it was sent
}

// discard removes the spooled files, if nobody took them over.
func (u *upload) discard() {
	for _, f := range u.files {
		os.Remove(f.Path)
	}
}

// postUpload installs a file that is sent in a form.
func postUpload(c *call, boundary string) *response {
	if boundary == "" {
		return badRequest("cannot read the upload: its Content-Type has no boundary")
	}
	u := &upload{fields: map[string]string{}}
	resp := u.read(c, multipart.NewReader(c.Body, boundary))
	if resp == nil {
		resp = u.install(c)
	}
	if resp.typ == "error" {
		u.discard()
	}
	return resp
}

// read takes the form in: the fields, and the file to the spool.
func (u *upload) read(c *call, form *multipart.Reader) *response {
	for n := 0; ; n++ {
		part, err := form.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return badRequest("cannot read the upload: %v", err)
		}
		if n >= maxFields {
			return badRequest("cannot read the upload: more than %d fields", maxFields)
		}
		if part.FormName() != "snap" {
			raw, err := io.ReadAll(io.LimitReader(part, maxField+1))
			if err != nil || len(raw) > maxField {
				return badRequest("cannot read the upload: field %q is too long or cut off", part.FormName())
			}
			u.fields[part.FormName()] = string(raw)
			continue
		}
		if len(u.files) == maxFiles {
			return badRequest("cannot install more than %d files in one request", maxFiles)
		}
		// What can be refused without the file is refused before it is stored.
		if action := u.fields["action"]; action != "" && action != "install" {
			return badAction(action)
		}
		if resp := u.spool(c, part); resp != nil {
			return resp
		}
	}
}

func badAction(action string) *response {
	if knownAction(action) {
		return badRequest("cannot %s: this version cannot do that yet", action)
	}
	return badRequest("cannot act on snaps with %q: want install, refresh, revert, remove, enable, disable, switch, hold or unhold", action)
}

// spool stores the file beside the installed ones, where it can be renamed.
func (u *upload) spool(c *call, part *multipart.Part) *response {
	f, err := os.CreateTemp(c.d.options.Dirs.Blobs(), ".local-install-*")
	if err != nil {
		return failureOr(fmt.Errorf("cannot store the snap: %w", err), http.StatusInternalServerError)
	}
	u.files = append(u.files, recipes.LocalFile{Path: f.Name(), Name: part.FileName()})
	src := &readError{Reader: part}
	_, err = io.Copy(f, src)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	switch {
	case src.err != nil:
		return badRequest("cannot read the snap: the upload was cut off: %v", src.err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return failure(fmt.Errorf("cannot store the snap in %s: %w", c.d.options.Dirs.Blobs(), errors.Unwrap(err)))
	case err != nil:
		return failureOr(fmt.Errorf("cannot store the snap: %w", err), http.StatusInternalServerError)
	}
	return nil
}

// readError remembers that it was the reader that failed.
type readError struct {
	io.Reader
	err error
}

func (r *readError) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// install starts the installation of what was read.
func (u *upload) install(c *call) *response {
	action, hasFile := u.fields["action"], len(u.files) > 0
	switch {
	case action != "" && action != "install":
		return badAction(action)
	case u.fields["dry-run"] != "":
		return badRequest("cannot plan the installation of an upload: name the file by its path")
	case u.fields["name"] != "":
		return badRequest("cannot install under another name: parallel instances are not supported yet")
	case !hasFile:
		return badRequest(`cannot install from the upload: there is no file in it, which is a field named "snap"`)
	}
	var o client.InstallOptions
	for field, set := range map[string]*bool{
		"dangerous": &o.Dangerous, "devmode": &o.DevMode, "classic": &o.Classic, "jailmode": &o.JailMode,
	} {
		switch v := strings.ToLower(u.fields[field]); v {
		case "true":
			*set = true
		case "", "false":
		default:
			return badRequest("cannot read the upload: %s is %q, want true or false", field, v)
		}
	}
	name := u.fields["snap-path"]
	if name == "" || len(u.files) > 1 {
		name = u.files[0].Name
	}
	options, resp := installOptions(o, name)
	if resp != nil {
		return resp
	}
	if options.Together, resp = allSnaps(u.fields["transaction"]); resp != nil {
		return resp
	}
	if len(u.files) > 1 {
		return async(c.d.backend.InstallFiles(c.Context(), u.files, options))
	}
	return async(c.d.backend.InstallFile(c.Context(), u.files[0].Path, options))
}
