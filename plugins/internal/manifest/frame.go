package manifest

import (
	"fmt"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A frame's bytes are one codec byte and the blocks of its mask in order.
const (
	frameOverhead = 1
	codecRaw      = 0
	codecZstd     = 1
	codecSealed   = 0x80 // added to either
)

// The coders are made on first use: other applets of the same binary never need them. They
// are safe for concurrent use and keep no data between calls. The level is the fastest: the next one takes half as much
// time again for a tenth less data (package upload has the figures), and time is what a busy gateway lacks.
var (
	encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(CellSize),
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	})
	decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(2*CellSize))
	})
)

// What does not compress comes in long runs: pictures, archives, what a client has encrypted. Behind so many frames that
// were not worth it, one of a few is tried, until one is worth it again.
const (
	dullRun = 16
	dullTry = 8
)

// thrift compresses the frames of an object, where that is worth its time.
type thrift struct {
	dull int // frames in a row that are stored as they are
}

// due reports whether to try the next frame.
func (t *thrift) due() bool { return t.dull < dullRun || t.dull%dullTry == 0 }

// append appends a codec byte and what it stands for, of blocks, to dst.
func (t *thrift) append(dst, blocks []byte) ([]byte, error) {
	start := len(dst)
	if t.due() {
		enc, err := encoder()
		if err != nil {
			return nil, fmt.Errorf("zstd encoder: %w", err)
		}
		dst = enc.EncodeAll(blocks, append(dst, codecZstd))
		if len(dst)-start <= len(blocks)-len(blocks)/16 { // worth decompressing
			t.dull = 0
			return dst, nil
		}
	}
	t.dull++
	return append(append(dst[:start], codecRaw), blocks...), nil
}

// appendBlocks appends the bytes of a frame that holds blocks, whole blocks of one cell, to dst.
// buf is memory to use.
func appendBlocks(dst, blocks []byte, t *thrift, s *Sealer, b binding, buf []byte) ([]byte, error) {
	start := len(dst)
	dst, err := t.append(dst, blocks)
	if err != nil || s == nil {
		return dst, err
	}
	dst[start] |= codecSealed
	b.codec = dst[start]
	return s.seal(dst, start+frameOverhead, b, buf), nil
}

// Open checks p, which it may overwrite, against the frame of the given cell and object, and returns
// its blocks.
func (f *Frame) Open(p []byte, s *Sealer, o *Object, cell uint64) ([]byte, error) {
	if Sum(p) != f.Hash {
		return nil, fmt.Errorf("frame at %d of %s: hash: %w", f.Offset, o.ID(), ErrInvalid)
	}
	blocks, err := openBlocks(p, bits.OnesCount16(f.Blocks)*BlockSize, s, binding{epoch: o.Epoch, number: o.Number, cell: cell, blocks: f.Blocks})
	if err != nil {
		return nil, fmt.Errorf("frame at %d of %s: %w", f.Offset, o.ID(), err)
	}
	return blocks, nil
}

func openBlocks(p []byte, want int, s *Sealer, b binding) ([]byte, error) {
	if len(p) < frameOverhead {
		return nil, fmt.Errorf("empty frame: %w", ErrInvalid)
	}
	out := p[frameOverhead:]
	var err error
	switch sealed := p[0]&codecSealed != 0; {
	case sealed:
		b.codec = p[0]
		if out, err = s.open(out, b); err != nil {
			return nil, err
		}
	case s != nil: // else whoever controls the store could slip in plain ones
		return nil, fmt.Errorf("plain frame in a sealed volume: %w", ErrInvalid)
	}
	switch p[0] &^ codecSealed {
	case codecRaw:
	case codecZstd:
		dec, err := decoder()
		if err != nil {
			return nil, fmt.Errorf("zstd decoder: %w", err)
		}
		if out, err = dec.DecodeAll(out, make([]byte, 0, want)); err != nil {
			return nil, fmt.Errorf("decompress: %w: %w", ErrInvalid, err)
		}
	default:
		return nil, fmt.Errorf("codec %d: %w", p[0], ErrTooNew)
	}
	if len(out) != want {
		return nil, fmt.Errorf("%d bytes of blocks, want %d: %w", len(out), want, ErrInvalid)
	}
	return out, nil
}

// IsCell says that what Open returns is a cell, all of it live.
func (f *Frame) IsCell() bool {
	const all = 1<<BlocksPerCell - 1
	return f.Blocks == all && f.Live == all
}

// Copy puts the live blocks among blocks, which Open returned, into their places in cell.
func (f *Frame) Copy(cell, blocks []byte) {
	for i := range BlocksPerCell {
		bit := uint16(1) << i
		if f.Blocks&bit == 0 {
			continue
		}
		if f.Live&bit != 0 {
			copy(cell[i*BlockSize:(i+1)*BlockSize], blocks)
		}
		blocks = blocks[BlockSize:]
	}
}
