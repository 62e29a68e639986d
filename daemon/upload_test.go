// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"endured/client"
	"endured/daemon"
)

func snapFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe_1.0_all.snap")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUpload(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := strings.Repeat("squash", 100_000)
	path := snapFile(t, content)
	var sent int64
	id, err := f.client.InstallFile(context.Background(), path, client.InstallOptions{Dangerous: true, Classic: true},
		func(done, total int64) {
			sent = done
			if total != int64(len(content)) {
				t.Errorf("total is %d", total)
			}
		})
	if err != nil || id != "1" || sent != int64(len(content)) {
		t.Fatalf("InstallFile: %q, %v, %d bytes sent", id, err, sent)
	}
	u := f.uploads[0]
	if u.content != content || u.mode != 0o600 || filepath.Dir(u.path) != f.dirs.Blobs() || !strings.HasPrefix(filepath.Base(u.path), ".local-install-") {
		t.Errorf("spooled as %s, %v, %d bytes", u.path, u.mode, len(u.content))
	}
	if o := u.options; o.Name != path || !o.Dangerous || !o.Classic || o.DevMode || o.JailMode {
		t.Errorf("options: %+v", o)
	}
	if files := f.spooled(); len(files) != 1 {
		t.Errorf("the backend's file is gone: %v", files)
	}
}

func TestRefusedUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	big := snapFile(t, strings.Repeat("x", 8<<20))

	_, err := f.client.InstallFile(ctx, big, client.InstallOptions{}, nil)
	if e := refusal(t, err); e.StatusCode != 400 || e.Message != fmt.Sprintf("cannot find signatures with metadata for snap %q", big) {
		t.Errorf("without --dangerous: %+v", e)
	}
	_, err = f.client.InstallFile(ctx, big, client.InstallOptions{Dangerous: true, DevMode: true, JailMode: true}, nil)
	if e := refusal(t, err); e.Message != "cannot use more than one of devmode, classic and jailmode" {
		t.Errorf("two modes: %+v", e)
	}
	f.fake.mu.Lock()
	f.err = errors.New("cannot read snap file: it is no squashfs")
	f.fake.mu.Unlock()
	_, err = f.client.InstallFile(ctx, big, client.InstallOptions{Dangerous: true}, nil)
	if e := refusal(t, err); e.StatusCode != 400 || e.Message != "cannot read snap file: it is no squashfs" {
		t.Errorf("refused by the backend: %+v", e)
	}

	for _, c := range []struct {
		fields [][2]string // "snap" is a file
		want   string
	}{
		{[][2]string{{"action", "try"}, {"snap-path", "/d"}}, "cannot try: this version cannot do that yet"},
		{[][2]string{{"action", "try"}, {"snap", "data"}}, "cannot try: this version cannot do that yet"},
		{[][2]string{{"action", "install"}, {"dangerous", "true"}}, `cannot install from the upload: there is no file in it, which is a field named "snap"`},
		{[][2]string{{"dangerous", "maybe"}, {"snap", "data"}}, `cannot read the upload: dangerous is "maybe", want true or false`},
		{[][2]string{{"dangerous", "true"}, {"snap", "a"}, {"snap", "b"}}, "it is no squashfs"},
		{[][2]string{{"dangerous", "true"}, {"dry-run", "true"}, {"snap", "a"}}, "cannot plan the installation of an upload: name the file by its path"},
		{[][2]string{{"dangerous", "true"}, {"name", "probe_two"}, {"snap", "a"}}, "cannot install under another name: parallel instances are not supported yet"},
		{[][2]string{{"dangerous", "true"}, {"transaction", "some"}, {"snap", "a"}}, `cannot use transaction "some": want per-snap or all-snaps`},
		{[][2]string{{"action", strings.Repeat("x", 20<<10)}}, `cannot read the upload: field "action" is too long or cut off`},
	} {
		var b bytes.Buffer
		form := multipart.NewWriter(&b)
		for _, field := range c.fields {
			if field[0] != "snap" {
				if err := form.WriteField(field[0], field[1]); err != nil {
					t.Fatal(err)
				}
				continue
			}
			w, err := form.CreateFormFile("snap", "probe.snap")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, field[1]); err != nil {
				t.Fatal(err)
			}
		}
		form.Close()
		status, body := f.raw("POST", "/v2/snaps", form.FormDataContentType(), &b)
		if !strings.Contains(body, quoteJSON(c.want)) || status != 400 {
			t.Errorf("%v: %d %s\nwant %s", c.fields, status, body, c.want)
		}
	}
	if files := f.spooled(); len(files) != 0 {
		t.Errorf("refused uploads left %v", files)
	}
}

func TestUploadOfSeveral(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), context.Background()
	one, two := snapFile(t, "one"), snapFile(t, "two")
	sent := map[string]int64{}
	o := client.InstallOptions{Dangerous: true, Together: true}
	if _, err := f.client.InstallFiles(ctx, []string{one, two}, o, func(path string, done, _ int64) { sent[path] = done }); err != nil {
		t.Fatal(err)
	}
	if sent[one] != 3 || sent[two] != 3 {
		t.Errorf("told of %v", sent)
	}
	o.Together = false
	if _, err := f.client.InstallFiles(ctx, []string{one, two}, o, nil); err != nil {
		t.Fatal(err)
	}
	calls := f.called()
	if len(calls) != 2 || !strings.HasSuffix(calls[0], "Together:true}") || !strings.HasSuffix(calls[1], "Together:false}") ||
		!strings.Contains(calls[0], "[probe_1.0_all.snap probe_1.0_all.snap]") {
		t.Errorf("called %q", calls)
	}
	if _, err := f.client.InstallFiles(ctx, []string{one, filepath.Dir(two)}, o, nil); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("a directory: %v", err)
	}
}

func quoteJSON(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }

func TestUploadCutOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c, err := net.Dial("unix", f.dirs.Socket())
	if err != nil {
		t.Fatal(err)
	}
	const part = "--B\r\nContent-Disposition: form-data; name=\"%s\"%s\r\n\r\n%s"
	body := fmt.Sprintf(part, "dangerous", "", "true\r\n") + fmt.Sprintf(part, "snap", `; filename="p.snap"`, strings.Repeat("y", 4096))
	fmt.Fprintf(c, "POST /v2/snaps HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(body), body)
	deadline := time.Now().Add(10 * time.Second)
	for len(f.spooled()) == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if len(f.spooled()) != 1 {
		t.Fatalf("spool: %v", f.spooled())
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(deadline)
	answer, _ := io.ReadAll(c)
	if !strings.Contains(string(answer), "the upload was cut off") {
		t.Errorf("answer: %s", answer)
	}
	if files := f.spooled(); len(files) != 0 {
		t.Errorf("the cut upload left %v", files)
	}
	if calls := f.called(); len(calls) != 0 {
		t.Errorf("the backend was called: %v", calls)
	}
}

func TestDeniedUploadGetsItsAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.as(daemon.Peer{UID: 1000, PID: os.Getpid(), Accepted: now()})
	_, err := f.newClient().InstallFile(context.Background(), snapFile(t, strings.Repeat("x", 32<<20)), client.InstallOptions{Dangerous: true}, nil)
	if e := refusal(t, err); e.StatusCode != 401 || e.Kind != client.KindLoginRequired {
		t.Errorf("upload as a user: %+v", e)
	}
	if files := f.spooled(); len(files) != 0 {
		t.Errorf("the denied upload left %v", files)
	}
}
