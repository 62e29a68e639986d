// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"endured/tests/lib/machines"
	"endured/tests/vm/guest"
)

// call sends a request to the guest and returns the connection. A guest that does not listen shows as an error of the
// first Receive: user mode networking accepts before it asks the guest.
func call(ctx context.Context, address string, c *guest.Call) (*guest.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	g := &guest.Conn{Conn: conn}
	if err := g.SendJSON(guest.Request, c); err != nil {
		conn.Close()
		return nil, err
	}
	return g, nil
}

// ask sends a request and returns the answer, waiting for at most limit.
func ask(ctx context.Context, address string, limit time.Duration, c *guest.Call) (*guest.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := call(ctx, address, c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	for {
		kind, payload, err := conn.Receive()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		if kind == guest.Reply {
			return answer(payload)
		}
	}
}

func answer(payload []byte) (*guest.Answer, error) {
	a := new(guest.Answer)
	if err := json.Unmarshal(payload, a); err != nil {
		return nil, fmt.Errorf("cannot understand the guest: %w", err)
	}
	if a.Error != "" {
		return nil, &guestError{a.Error}
	}
	return a, nil
}

// guestError is what the guest itself says, so there is no use in asking again.
type guestError struct{ text string }

func (e *guestError) Error() string { return e.text }

// wake makes a call that tells the guest what a saved state lacks.
func wake(verb string) *guest.Call {
	seed := make([]byte, 64)
	rand.Read(seed)
	return &guest.Call{Verb: verb, Time: time.Now().UnixNano(), Seed: seed}
}

// awaitGuest asks until somebody answers, who is wanted: "init" or "agent".
func awaitGuest(ctx context.Context, address, verb, who string) error {
	for {
		a, err := ask(ctx, address, 2*time.Second, wake(verb))
		var said *guestError
		switch {
		case err == nil && a.Who == who:
			return nil
		case errors.As(err, &said):
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// bootGuest has init go on until the agent answers. What init was told without its answer arriving in time may have been
// done, so each round asks first who is there.
func bootGuest(ctx context.Context, address string) error {
	for {
		a, err := ask(ctx, address, 2*time.Second, wake(guest.Hello))
		if err == nil && a.Who == "init" {
			_, err = ask(ctx, address, 2*time.Second, wake(guest.Boot))
		} else if err == nil && a.Who == "agent" {
			return nil
		}
		if said := new(guestError); errors.As(err, &said) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// streams are what a command in the guest is connected to.
type streams struct {
	in       io.Reader
	out, err io.Writer
	signals  <-chan os.Signal
}

// execute runs a command in the guest; its exit code, unless 0, is an *machines.ExitError.
func execute(ctx context.Context, address string, c *guest.Call, s streams) error {
	c.Verb = guest.Exec
	conn, err := call(ctx, address, c)
	if err != nil {
		return fmt.Errorf("cannot reach the guest: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	go func() {
		if s.in != nil {
			io.Copy(conn.Writer(guest.Stdin), s.in)
		}
		conn.Send(guest.Stdin, nil)
	}()
	go func() {
		for sig := range s.signals {
			if n, ok := sig.(syscall.Signal); ok {
				conn.Send(guest.Signal, []byte{byte(n)})
			}
		}
	}()
	for {
		kind, payload, err := conn.Receive()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("cannot hear from the guest any more: %w", err)
		}
		switch kind {
		case guest.Stdout:
			_, err = s.out.Write(payload)
		case guest.Stderr:
			_, err = s.err.Write(payload)
		case guest.Reply:
			a, err := answer(payload)
			if err == nil && a.Code != 0 {
				err = &machines.ExitError{Code: a.Code}
			}
			return err
		}
		if err != nil {
			return err
		}
	}
}
