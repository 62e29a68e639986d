// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

var errBomb = errors.New("it is damaged: a compressed block is larger than a block may be")

// expander expands blocks of one compression up to a limit: to learn whether
// they keep it, and to have what they hold.
type expander struct {
	compression uint16
	limit       int
	dictionary  int // the largest dictionary that xz may use, bytes
	zstd        *zstd.Decoder
	out         []byte // for lzo, which expands into a buffer
	sink        io.Writer
}

func newExpander(compression uint16, limit, dictionary int) (*expander, error) {
	e := &expander{compression: compression, limit: limit, dictionary: dictionary, sink: io.Discard}
	switch compression {
	case compZstd:
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)))
		if err != nil {
			return nil, fmt.Errorf("cannot set up zstd: %w", err)
		}
		e.zstd = d
	case compLZO:
		e.out = make([]byte, limit)
	}
	return e, nil
}

func (e *expander) close() {
	if e.zstd != nil {
		e.zstd.Close()
	}
}

// check returns errBomb if block expands to more than the limit. A block that
// is no sound stream is an error only if sure, because data blocks may be
// stored as they are; then the library finds out.
func (e *expander) check(block []byte, sure bool) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is damaged: %v", r)
		}
	}()
	err = e.expand(block)
	if err == nil || errors.Is(err, errBomb) {
		return err
	}
	if sure {
		return fmt.Errorf("it is damaged: %w", err)
	}
	return nil
}

func (e *expander) expand(block []byte) error {
	switch e.compression {
	case compGzip:
		z, err := zlib.NewReader(bytes.NewReader(block))
		if err != nil {
			return err
		}
		return e.drain(z)
	case compZstd:
		out, err := e.zstd.DecodeAll(block, nil)
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return errBomb
		}
		if err == nil {
			_, err = e.sink.Write(out)
		}
		return err
	case compLZO:
		n, err := lzo.Decompress(block, e.out)
		if err == nil {
			_, err = e.sink.Write(e.out[:n])
		}
		return err
	}
	return e.expandXZ(block)
}

func (e *expander) drain(r io.Reader) error {
	n, err := io.Copy(e.sink, io.LimitReader(r, int64(e.limit)+1))
	if n > int64(e.limit) {
		return errBomb
	}
	return err
}

// expandXZ expands the one block of an xz stream. It reads the headers itself,
// because a decoder would allocate whatever dictionary they ask for, for every
// block of the stream.
// Source of the layout: tukaani.org, "The .xz File Format" 1.2.1, sections 2.1 and 3.1.
func (e *expander) expandXZ(stream []byte) error {
	const streamHeader = 12
	if len(stream) < streamHeader+8 || !bytes.HasPrefix(stream, []byte("\xfd7zXZ\x00")) {
		return errors.New("not an xz stream")
	}
	block := stream[streamHeader:]
	size := (int(block[0]) + 1) * 4
	if block[0] == 0 || size > len(block) {
		return errors.New("an xz stream without a block")
	}
	dictionary, err := xzDictionary(block[1 : size-4])
	if err != nil {
		return err
	}
	if dictionary > uint64(e.dictionary) {
		return errBomb
	}
	rest := bytes.NewReader(block[size:])
	r, err := lzma.Reader2Config{DictCap: max(int(dictionary), lzma.MinDictCap)}.NewReader2(rest)
	if err != nil {
		return err
	}
	if err := e.drain(r); err != nil {
		return err
	}
	// Behind the block: padding to four bytes, a check of a size that the stream's flags give, the index.
	used := len(block) - rest.Len()
	used += -used & 3
	used += xzCheckSize(stream[7])
	if used >= len(block) || block[used] != 0 {
		return errBomb
	}
	return nil
}

// xzDictionary reads the dictionary size out of a block header that names one
// filter, LZMA2.
func xzDictionary(header []byte) (uint64, error) {
	unsupported := errors.New("an xz filter that is not supported; pack without -Xbcj")
	if len(header) < 4 || header[0]&0x3f != 0 {
		return 0, unsupported
	}
	at := 1
	for _, present := range []bool{header[0]&0x40 != 0, header[0]&0x80 != 0} {
		for present && at < len(header) {
			present = header[at]&0x80 != 0
			at++
		}
	}
	if at+3 > len(header) || header[at] != 0x21 || header[at+1] != 1 || header[at+2] > 40 {
		return 0, unsupported
	}
	b := header[at+2]
	if b == 40 {
		return 1<<32 - 1, nil
	}
	return uint64(2|b&1) << (b/2 + 11), nil
}

func xzCheckSize(flags byte) int {
	sizes := []int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	return sizes[flags&15]
}
