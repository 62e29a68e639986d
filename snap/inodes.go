// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
)

// The types of inodes in an image. Those of the extended kind, with more
// fields, are seven higher.
// Source of the layout: Linux, Documentation/filesystems/squashfs.rst and
// fs/squashfs/squashfs_fs.h.
const (
	inodeDir = 1 + iota
	inodeFile
	inodeLink
	inodeBlock
	inodeChar
	inodePipe
	inodeSocket
	inodeExtended = 7
)

const (
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	noFragment = ^uint32(0)
	// maxInodeTable is how much the inode table may expand to: a million files
	// and more.
	maxInodeTable = 64 << 20
)

// Special is a file of a snap that has more power than its content.
type Special struct {
	Path string // relative to the snap; "" where the image is too damaged to tell
	// Kind is "device", "setuid" or "setgid".
	Kind string
}

// dirPlace is where the listing of a directory lies in the directory table.
type dirPlace struct {
	inode, block uint32
	offset       uint16
	size         uint32
}

// inodeScan is what is found in an image's inode table, which is read from
// front to back: that is cheap, where a walk over the tree is not.
type inodeScan struct {
	kinds map[uint32]string // of special files, by inode number
	dirs  []dirPlace
}

// blocks reads metadata blocks of an image.
type blocks struct {
	r     io.ReaderAt
	super superblock
	out   bytes.Buffer
	exp   *expander
	read  int // blocks so far
}

func newBlocks(r io.ReaderAt, s superblock) (*blocks, error) {
	b := &blocks{r: r, super: s}
	var err error
	if b.exp, err = newExpander(s.Compression, metadataBlock, int(s.BlockSize)); err == nil {
		b.exp.sink = &b.out
	}
	return b, err
}

// next appends the block at an offset of the image to out and returns where the
// one after it begins.
func (b *blocks) next(at uint64) (uint64, error) {
	var head [2]byte
	if b.read++; b.read > maxImageExpanded/metadataBlock {
		return 0, errors.New("its metadata is too large, or leads in a circle")
	}
	if at > b.super.BytesUsed-2 {
		return 0, errors.New("it is damaged: a table leads out of it")
	}
	if _, err := b.r.ReadAt(head[:], int64(at)); err != nil {
		return 0, err
	}
	word := binary.LittleEndian.Uint16(head[:])
	raw := make([]byte, word&0x7fff)
	if len(raw) == 0 || len(raw) > metadataBlock || at+2+uint64(len(raw)) > b.super.BytesUsed {
		return 0, fmt.Errorf("it is damaged: a metadata block of %d bytes at %d", len(raw), at)
	}
	if _, err := b.r.ReadAt(raw, int64(at)+2); err != nil {
		return 0, err
	}
	if word&0x8000 != 0 {
		b.out.Write(raw)
	} else if err := b.exp.check(raw, true); err != nil {
		return 0, err
	}
	return at + 2 + uint64(len(raw)), nil
}

// specials lists the special files of an image, by path.
func specials(r io.ReaderAt, s superblock) ([]Special, error) {
	b, err := newBlocks(r, s)
	if err != nil {
		return nil, err
	}
	defer b.exp.close()
	for at := s.InodeTable; at < s.DirectoryTable; {
		if at, err = b.next(at); err != nil {
			return nil, err
		}
		if b.out.Len() > maxInodeTable {
			return nil, errors.New("its metadata is too large")
		}
	}
	scan := &inodeScan{kinds: map[uint32]string{}}
	table := b.out.Bytes()
	for n := uint32(0); n < s.Inodes && len(table) > 0; n++ {
		size, err := scan.inode(table, s.BlockSize)
		if err != nil {
			return nil, err
		}
		table = table[size:]
	}
	if len(scan.kinds) == 0 {
		return nil, nil
	}
	b.out = bytes.Buffer{} // table is what it was
	return scan.named(b), nil
}

// inode reads the inode at the front of the table, and returns its length.
func (i *inodeScan) inode(table []byte, blockSize uint32) (int, error) {
	const head = 16
	damaged := errors.New("it is damaged: its inode table is cut off")
	have := len(table)
	if have < head+24 { // the last one may be short
		table = append(slices.Clone(table), make([]byte, head+24)...)
	}
	u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(table[at:]) }
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(table[at:]) }
	kind, mode, number := u16(0), u16(2), u32(12)
	size := 0
	switch kind {
	case inodeDir:
		size = head + 16
		i.dirs = append(i.dirs, dirPlace{number, u32(16), u16(26), uint32(u16(24))})
	case inodeDir + inodeExtended:
		size = head + 24
		i.dirs = append(i.dirs, dirPlace{number, u32(24), u16(34), u32(20)})
		for n := u16(32); n > 0; n-- {
			if size+12 > have {
				return 0, damaged
			}
			name := u32(size + 8)
			if name > 255 {
				return 0, damaged
			}
			size += 12 + int(name) + 1
		}
	case inodeFile:
		size = head + 16 + 4*fileBlocks(uint64(u32(28)), u32(20), blockSize)
	case inodeFile + inodeExtended:
		if have < head+40 {
			return 0, damaged
		}
		size = head + 40 + 4*fileBlocks(binary.LittleEndian.Uint64(table[24:]), u32(44), blockSize)
	case inodeLink, inodeLink + inodeExtended:
		size = head + 8 + int(u32(20))
		if kind != inodeLink {
			size += 4
		}
	case inodeBlock, inodeChar, inodePipe, inodeSocket:
		size = head + 4
	case inodeBlock + inodeExtended, inodeChar + inodeExtended, inodePipe + inodeExtended, inodeSocket + inodeExtended:
		size = head + 8
	default:
		return 0, fmt.Errorf("it is damaged: an inode of type %d", kind)
	}
	switch kind {
	case inodeBlock, inodeChar, inodeBlock + inodeExtended, inodeChar + inodeExtended:
		size += 4
		i.kinds[number] = "device"
	case inodeFile, inodeFile + inodeExtended:
		if mode&modeSetuid != 0 {
			i.kinds[number] = "setuid"
		} else if mode&modeSetgid != 0 {
			i.kinds[number] = "setgid"
		}
	}
	if size < 0 || size > have {
		return 0, damaged
	}
	return size, nil
}

// fileBlocks is how many blocks of its own a file has.
func fileBlocks(size uint64, fragment, blockSize uint32) int {
	n := size / uint64(blockSize)
	if fragment == noFragment && size%uint64(blockSize) != 0 {
		n++
	}
	return int(min(n, maxInodeTable))
}

// named finds the paths of what was found in the directory table. What an image
// does not tell of itself stays without one.
func (i *inodeScan) named(b *blocks) []Special {
	type place struct {
		dir  uint32
		name string
	}
	places := map[uint32]place{}
	subdirs := map[uint32]bool{}
	for _, d := range i.dirs {
		subdirs[d.inode] = true
	}
	for _, d := range i.dirs {
		for _, e := range b.listing(d) {
			if i.kinds[e.inode] != "" || subdirs[e.inode] {
				places[e.inode] = place{d.inode, e.name}
			}
		}
	}
	var out []Special
	for inode, kind := range i.kinds {
		s := Special{Kind: kind}
		for steps := 0; steps < 100; steps++ {
			p, ok := places[inode]
			if !ok {
				break // the root
			}
			s.Path, inode = path.Join(p.name, s.Path), p.dir
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Special) int { return bytes.Compare([]byte(a.Path+a.Kind), []byte(b.Path+b.Kind)) })
	return out
}

// dirEntry is a name in a directory.
type dirEntry struct {
	inode uint32
	name  string
}

// listing reads a directory, as far as it is sound.
func (b *blocks) listing(d dirPlace) []dirEntry {
	const empty = 3 // what the size counts for "." and ".."
	if d.size <= empty || d.size > maxInodeTable {
		return nil
	}
	b.out.Reset()
	for at := b.super.DirectoryTable + uint64(d.block); b.out.Len() < int(d.offset)+int(d.size)-empty; {
		next, err := b.next(at)
		if err != nil {
			return nil
		}
		at = next
	}
	raw := b.out.Bytes()[d.offset:][:d.size-empty]
	var out []dirEntry
	for len(raw) >= 12 {
		count, first := binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[8:])
		raw = raw[12:]
		for ; len(raw) >= 8; raw = raw[8+int(binary.LittleEndian.Uint16(raw[6:]))+1:] {
			length := int(binary.LittleEndian.Uint16(raw[6:])) + 1
			if len(raw) < 8+length {
				return out
			}
			delta := int16(binary.LittleEndian.Uint16(raw[2:]))
			out = append(out, dirEntry{first + uint32(int32(delta)), string(raw[8 : 8+length])})
			if count == 0 {
				raw = raw[8+length:]
				break
			}
			count--
		}
	}
	return out
}
