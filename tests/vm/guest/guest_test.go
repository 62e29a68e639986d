// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"
)

func pair(t *testing.T) (host, agent *Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	for _, c := range []net.Conn{a, b} {
		c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return &Conn{Conn: a}, &Conn{Conn: b}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	host, agent := pair(t)
	long := bytes.Repeat([]byte("0123456789"), 20_000)
	go func() {
		host.SendJSON(Request, Call{Verb: Exec, Argv: []string{"true"}})
		host.Send(Stdin, nil)
		host.Writer(Stdin).Write(long)
		host.Close()
	}()
	call, err := receiveCall(agent)
	if err != nil || call.Verb != Exec || call.Argv[0] != "true" {
		t.Fatalf("%+v, %v", call, err)
	}
	if kind, payload, err := agent.Receive(); kind != Stdin || len(payload) != 0 || err != nil {
		t.Errorf("the end of input is %q %q %v", kind, payload, err)
	}
	var got []byte
	for {
		_, payload, err := agent.Receive()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, payload...)
	}
	if !bytes.Equal(got, long) {
		t.Errorf("%d bytes arrived of %d", len(got), len(long))
	}
}

func TestNoBeginningButARequest(t *testing.T) {
	t.Parallel()
	for _, frame := range [][]byte{{Stdin, 0, 0, 0, 0}, {Request, 255, 0, 0, 0}, {Request, 0, 0, 0, 1, '{'}} {
		host, agent := pair(t)
		go func() {
			host.Conn.Write(frame)
			host.Close()
		}()
		if _, err := receiveCall(agent); err == nil {
			t.Errorf("%q is accepted", frame)
		}
	}
}

// Whoever still writes when nobody listens any more must not be hit by SIGPIPE.
func TestRelayReadsOn(t *testing.T) {
	t.Parallel()
	host, agent := pair(t)
	var to io.Writer
	r, err := newRelay(agent, Stdout, &to)
	if err != nil {
		t.Fatal(err)
	}
	child := to.(*os.File)
	fd, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(child.Fd())), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.started(agent)
	go fd.WriteString("first")
	if kind, payload, err := host.Receive(); kind != Stdout || string(payload) != "first" || err != nil {
		t.Fatalf("%q %q %v", kind, payload, err)
	}
	r.stop()
	if _, err := fd.Write(make([]byte, 1<<20)); err != nil {
		t.Errorf("what is written later: %v", err)
	}
	fd.Close()
	<-r.done
}
