// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
)

// archive writes a ramdisk in the format "newc" of cpio: a header of hexadecimal numbers, name and content, each
// padded to four bytes.
type archive struct {
	w     io.Writer
	inode int
	err   error
}

const (
	modeDir  = 0040755
	modeFile = 0100755
)

func (a *archive) add(name string, mode int, data []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	var b bytes.Buffer
	b.WriteString("070701")
	for _, n := range []int{a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0} {
		fmt.Fprintf(&b, "%08X", n)
	}
	b.WriteString(name)
	b.WriteByte(0)
	pad(&b)
	b.Write(data)
	pad(&b)
	_, a.err = a.w.Write(b.Bytes())
}

func pad(b *bytes.Buffer) { b.Write(make([]byte, -b.Len()&3)) }

func (a *archive) close() error {
	a.add("TRAILER!!!", 0, nil)
	return a.err
}
