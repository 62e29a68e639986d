// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"endured/client"
)

// serve answers on a socket until the test ends or stop is called.
func serve(t *testing.T, path string, h http.HandlerFunc) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return func() { srv.Close() }
}

func TestGetWaitsForTheDaemon(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	c := client.New(client.Config{Socket: path, Patience: 20 * time.Second})
	ready := time.AfterFunc(300*time.Millisecond, func() {
		serve(t, path, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"type":"sync","result":{"version":"7"}}`)
		})
	})
	defer ready.Stop()
	info, err := c.SystemInfo(context.Background())
	if err != nil || info.Version != "7" {
		t.Errorf("SystemInfo: %+v, %v", info, err)
	}
}

func TestPostIsSentOnce(t *testing.T) {
	t.Parallel()
	c := client.New(client.Config{Socket: filepath.Join(t.TempDir(), "s"), Patience: time.Hour})
	_, err := c.Enable(context.Background(), "probe")
	var down *client.ConnectError
	if !errors.As(err, &down) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Enable without a daemon: %v", err)
	}
}

func TestContextEndsTheWaitForTheDaemon(t *testing.T) {
	t.Parallel()
	c := client.New(client.Config{Socket: filepath.Join(t.TempDir(), "s"), Patience: time.Hour})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Snaps(ctx, nil, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Snaps: %v", err)
	}
}

func TestWaitSurvivesARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	asked := make(chan struct{}, 1)
	stop := serve(t, path, func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done() // the daemon dies while the client waits
	})
	c := client.New(client.Config{Socket: path})
	type result struct {
		ch  *client.Change
		err error
	}
	ended := make(chan result, 1)
	go func() {
		ch, err := c.WaitChange(context.Background(), "3", nil)
		ended <- result{ch, err}
	}()
	<-asked
	stop()
	_ = os.Remove(path)
	serve(t, path, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/changes/3/wait" {
			t.Errorf("asked for %s", r.URL)
		}
		fmt.Fprint(w, `{"type":"sync","result":{"id":"3","status":"Done","ready":true}}`)
	})
	select {
	case r := <-ended:
		if r.err != nil || r.ch.Failed() != nil {
			t.Errorf("WaitChange: %+v, %v", r.ch, r.err)
		}
	case <-time.After(20 * time.Second):
		t.Error("WaitChange did not return")
	}
}

func TestWaitReportsEachStateOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	var n atomic.Int32
	serve(t, path, func(w http.ResponseWriter, r *http.Request) {
		// The second answer is a wait that timed out: nothing is new.
		i := n.Add(1)
		seen := []string{"", "a", "a", "b"}[i-1]
		if got := r.URL.Query().Get("seen"); got != seen {
			t.Errorf("request %d has seen %q, want %q", i, got, seen)
		}
		fmt.Fprint(w, `{"type":"sync","result":`+[]string{
			`{"seen":"a","status":"Doing"}`, `{"seen":"a","status":"Doing"}`, `{"seen":"b","status":"Doing"}`, `{"seen":"c","status":"Done","ready":true}`,
		}[i-1]+`}`)
	})
	var reported []string
	_, err := client.New(client.Config{Socket: path}).WaitChange(context.Background(), "3", func(ch *client.Change) {
		reported = append(reported, ch.Seen)
	})
	if err != nil || fmt.Sprint(reported) != "[a b c]" {
		t.Errorf("reported %v, %v", reported, err)
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	answers := []struct {
		status int
		body   string
	}{
		{200, "<html>"}, {200, `{"type":"sync","result":7}`}, {502, "bad gateway"}, {202, `{"type":"async"}`}, {200, `{"type":"sync","result":[]}`},
	}
	var n atomic.Int32
	serve(t, path, func(w http.ResponseWriter, _ *http.Request) {
		a := answers[n.Add(1)-1]
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
	})
	c := client.New(client.Config{Socket: path})
	for i := range 3 {
		if _, err := c.Snaps(context.Background(), nil, false); err == nil {
			t.Errorf("answer %d was understood", i)
		}
	}
	for i := range 2 {
		if id, err := c.Enable(context.Background(), "x"); err == nil {
			t.Errorf("answer %d was understood as change %q", i+3, id)
		}
	}
}
