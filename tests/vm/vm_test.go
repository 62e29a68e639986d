// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"endured/tests/vm/guest"
)

func TestArchive(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	a := &archive{w: &b}
	a.add("dir", modeDir, nil)
	a.add("init", modeFile, []byte("hello"))
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for data := b.Bytes(); len(data) != 0; {
		if len(data) < 110 || string(data[:6]) != "070701" {
			t.Fatalf("no header at %d", b.Len()-len(data))
		}
		field := func(n int) int {
			v, err := strconv.ParseUint(string(data[6+8*n:14+8*n]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(v)
		}
		size, length := field(6), field(11)
		body := (110 + length + 3) &^ 3
		got[string(data[110:110+length-1])] = strconv.FormatInt(int64(field(1)), 8) + " " + string(data[body:body+size])
		data = data[(body+size+3)&^3:]
	}
	for name, want := range map[string]string{"dir": "40755 ", "init": "100755 hello", "TRAILER!!!": "0 "} {
		if got[name] != want {
			t.Errorf("%s is %q, not %q", name, got[name], want)
		}
	}
}

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"modules.dep": "kernel/a.ko: kernel/b-x.ko kernel/c.ko\nkernel/b-x.ko: kernel/c.ko\nkernel/c.ko:\nkernel/d.ko.xz:\n",
		// What is built in has no file.
		"modules.builtin": "kernel/fs/ext4.ko\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := withDependencies(dir, []string{"d", "b_x", "ext4", "a"})
	if want := "kernel/d.ko.xz kernel/c.ko kernel/b-x.ko kernel/a.ko"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v, not %s", got, err, want)
	}
	if _, err := withDependencies(dir, []string{"z"}); err == nil {
		t.Error("a module that is not there is found")
	}
}

func TestForwardedPort(t *testing.T) {
	t.Parallel()
	text := "Hub 0 (#net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n" +
		"  TCP[ESTABLISHED]   21       127.0.0.1 41017       10.0.2.15  7777     0     0\r\n" +
		"  TCP[HOST_FORWARD]  17       127.0.0.1 37925       10.0.2.15  7777     0     0\r\n"
	if found := forward.FindStringSubmatch(text); found == nil || found[1] != "37925" {
		t.Errorf("found %q", found)
	}
}

// A guest on a busy host may do as it is told, and be too late with its answer.
func TestBootWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	told := make(chan string, 10)
	go func() {
		defer close(told)
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g := &guest.Conn{Conn: c}
			var call guest.Call
			_, payload, _ := g.Receive()
			json.Unmarshal(payload, &call)
			a := guest.Answer{Who: "init"}
			if n == 2 {
				a.Who = "agent"
			}
			told <- call.Verb
			if call.Verb != guest.Boot {
				g.SendJSON(guest.Reply, a)
			}
			c.Close()
		}
	}()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := bootGuest(ctx, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, want := range []string{guest.Hello, guest.Boot, guest.Hello, ""} {
		if got := <-told; got != want {
			t.Errorf("the guest was told %q, not %q", got, want)
		}
	}
}

func TestImageOfAnotherProcessor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := openImage(dir, 2_000_000); err == nil {
		t.Error("an image that is not finished is opened")
	}
	if err := os.WriteFile(filepath.Join(dir, "image.json"), []byte(`{"khz":2000000}`), 0644); err != nil {
		t.Fatal(err)
	}
	for khz, good := range map[int]bool{2_000_000: true, 2_000_900: true, 1_999_100: true, 2_100_000: false, 1_900_000: false} {
		if _, err := openImage(dir, khz); (err == nil) != good {
			t.Errorf("on a machine with %d kHz: %v", khz, err)
		}
	}
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(dir, "image.json"), old, old)
	openImage(dir, 2_000_000)
	if info, err := os.Stat(filepath.Join(dir, "image.json")); err != nil || time.Since(info.ModTime()) > time.Minute {
		t.Error("an image that is used looks unused")
	}
}
