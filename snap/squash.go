// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"sync"

	"github.com/diskfs/go-diskfs/backend"
)

// What one opening of a .snap may cost. Metadata of real snaps is some
// hundred kilobytes.
const (
	maxImageReads    = 50000
	maxImageExpanded = 256 << 20
	metadataBlock    = 8 << 10
	superblockSize   = 96
	tableAbsent      = ^uint64(0)
)

// superblock is the part of a squashfs 4.0 superblock that is checked before
// the library sees the image.
// Source of the layout: Linux, Documentation/filesystems/squashfs.rst.
type superblock struct {
	Magic          uint32
	Inodes         uint32
	ModTime        uint32
	BlockSize      uint32
	Fragments      uint32
	Compression    uint16
	BlockLog       uint16
	Flags          uint16
	IDs            uint16
	Major, Minor   uint16
	Root           uint64
	BytesUsed      uint64
	IDTable        uint64
	XattrTable     uint64
	InodeTable     uint64
	DirectoryTable uint64
	FragmentTable  uint64
	ExportTable    uint64
}

const (
	squashMagic   = 0x73717368
	flagNoXattrs  = 0x0200
	compGzip      = 1
	compLZO       = 3
	compXZ        = 4
	compZstd      = 6
	fragmentsPer  = metadataBlock / 16
	minBlockSize  = 4 << 10
	maxBlockSize  = 1 << 20
	minInodeBytes = 20
)

func compressionName(c uint16) string {
	names := []string{"unknown", "gzip", "lzma", "lzo", "xz", "lz4", "zstd"}
	if int(c) >= len(names) {
		c = 0
	}
	return names[c]
}

// fragmentIndex is the length of the index of the fragment table, bytes.
func (s superblock) fragmentIndex() uint64 {
	return 8 * ((uint64(s.Fragments) + fragmentsPer - 1) / fragmentsPer)
}

// readSuperblock reads and checks the superblock of an image of size bytes.
func readSuperblock(r io.ReaderAt, size int64) (superblock, error) {
	var s superblock
	if err := binary.Read(io.NewSectionReader(r, 0, superblockSize), binary.LittleEndian, &s); err != nil {
		return s, errors.New("it is too short for a squashfs image")
	}
	// The lookup tables lie behind the directory table, the index of the fragments among them.
	switch {
	case s.Magic != squashMagic:
		return s, errors.New("it is not a squashfs image")
	case s.Major != 4 || s.Minor != 0:
		return s, fmt.Errorf("it is of squashfs version %d.%d; only 4.0 is supported", s.Major, s.Minor)
	case s.BlockSize < minBlockSize || s.BlockSize > maxBlockSize || bits.OnesCount32(s.BlockSize) != 1,
		bits.TrailingZeros32(s.BlockSize) != int(s.BlockLog):
		return s, fmt.Errorf("its block size of %d bytes is not a power of two from 4 KiB to 1 MiB", s.BlockSize)
	case s.Compression != compGzip && s.Compression != compLZO && s.Compression != compXZ && s.Compression != compZstd:
		return s, fmt.Errorf("it is compressed with method %d (%s); only xz, lzo, zstd and gzip are supported",
			s.Compression, compressionName(s.Compression))
	case s.BytesUsed > uint64(size):
		return s, fmt.Errorf("it is truncated: %d bytes of %d", size, s.BytesUsed)
	case s.Inodes == 0 || uint64(s.Inodes)*minInodeBytes > s.BytesUsed<<10 || s.IDs == 0:
		return s, fmt.Errorf("its superblock is damaged: %d inodes, %d owners", s.Inodes, s.IDs)
	case s.InodeTable < superblockSize || s.InodeTable >= s.DirectoryTable || s.DirectoryTable >= s.BytesUsed,
		s.IDTable <= s.DirectoryTable || s.IDTable > s.BytesUsed-8:
		return s, errors.New("its superblock is damaged: the tables are out of order")
	case s.Fragments > 0 && (s.FragmentTable <= s.DirectoryTable || s.FragmentTable >= s.BytesUsed ||
		s.fragmentIndex() > s.BytesUsed-s.FragmentTable):
		return s, fmt.Errorf("its superblock is damaged: no room for %d fragments", s.Fragments)
	}
	return s, nil
}

// guard is what the squashfs library sees instead of the file. It hides the
// extended attributes, which nobody needs here; it refuses reads that no sound
// image leads to; and it expands every compressed block once itself, with a
// bound, because the library would expand a bomb to its full size. Once it has
// refused something it refuses everything.
type guard struct {
	r     io.ReaderAt
	super superblock
	data  *expander
	meta  *expander

	mu        sync.Mutex
	reads     int
	expanded  int64
	header    int64 // where the last header of a metadata block was read, -1 otherwise
	length    int   // what it said
	packed    bool
	ids       bool // the table of owners was read
	fragments bool // the table of fragments was read
	err       error
}

func newGuard(r io.ReaderAt, s superblock) (*guard, error) {
	data, err := newExpander(s.Compression, int(s.BlockSize), int(s.BlockSize))
	if err != nil {
		return nil, err
	}
	meta, err := newExpander(s.Compression, metadataBlock, int(s.BlockSize))
	if err != nil {
		return nil, err
	}
	return &guard{r: r, super: s, data: data, meta: meta, header: -1}, nil
}

// ReadAt implements io.ReaderAt for the library.
func (g *guard) ReadAt(p []byte, off int64) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = g.read(p, off)
	}
	if g.err != nil {
		return 0, g.err
	}
	return len(p), nil
}

func (g *guard) read(p []byte, off int64) error {
	if g.reads++; g.reads > maxImageReads || g.expanded > maxImageExpanded {
		return errors.New("its metadata is too large, or leads in a circle")
	}
	if off < 0 || len(p) == 0 || uint64(off) > g.super.BytesUsed || uint64(len(p)) > g.super.BytesUsed-uint64(off) {
		return fmt.Errorf("it is damaged: %d bytes at %d do not lie inside it", len(p), off)
	}
	if _, err := g.r.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	} else if err != nil && uint64(off)+uint64(len(p)) < g.super.BytesUsed {
		return errors.New("it became shorter while it was read")
	}
	header := g.header
	g.header = -1
	switch {
	case off == 0 && len(p) == superblockSize:
		flags := binary.LittleEndian.Uint16(p[24:])
		binary.LittleEndian.PutUint16(p[24:], flags|flagNoXattrs)
		binary.LittleEndian.PutUint64(p[56:], tableAbsent)
	case len(p) == 2:
		word := binary.LittleEndian.Uint16(p)
		g.header, g.length, g.packed = off, int(word&0x7fff), word&0x8000 == 0
		if g.length == 0 || g.length > metadataBlock {
			return fmt.Errorf("it is damaged: a metadata block of %d bytes at %d", g.length, off)
		}
	case header >= 0 && off == header+2 && len(p) == g.length:
		g.expanded += metadataBlock
		if g.packed {
			return g.meta.check(p, true)
		}
	case g.isTable(off, len(p)):
	default:
		if len(p) > int(g.super.BlockSize) {
			return fmt.Errorf("it is damaged: a block of %d bytes at %d", len(p), off)
		}
		g.expanded += int64(g.super.BlockSize)
		return g.data.check(p, false)
	}
	return nil
}

// isTable tells whether a read is that of a lookup table, which is not
// compressed. Each is read once; whatever lies at its place later is a block.
func (g *guard) isTable(off int64, n int) bool {
	ids := 8 * ((uint64(g.super.IDs)*4 + metadataBlock - 1) / metadataBlock)
	switch {
	case !g.ids && uint64(off) == g.super.IDTable && uint64(n) == ids:
		g.ids = true
	case !g.fragments && uint64(off) == g.super.FragmentTable && uint64(n) == g.super.fragmentIndex():
		g.fragments = true
	default:
		return false
	}
	return true
}

// problem returns what the guard has refused, which says more than what the
// library makes of it.
func (g *guard) problem() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *guard) close() {
	g.data.close()
	g.meta.close()
}

// storage makes a guard the library's kind of disk.
type storage struct{ *guard }

var errReadOnly = errors.New("the image is read only")

func (storage) Read([]byte) (int, error)                { return 0, errReadOnly }
func (storage) Seek(int64, int) (int64, error)          { return 0, errReadOnly }
func (storage) Stat() (fs.FileInfo, error)              { return nil, errReadOnly }
func (storage) Close() error                            { return nil }
func (storage) Path() string                            { return "" }
func (storage) Sys() (*os.File, error)                  { return nil, errReadOnly }
func (storage) Writable() (backend.WritableFile, error) { return nil, errReadOnly }
