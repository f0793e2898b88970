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
)

// The coders are made on first use: other applets of the same binary never need them. They
// are safe for concurrent use and keep no data between calls.
var (
	encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(CellSize),
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	})
	decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(2*CellSize))
	})
)

// AppendFrame appends the frame that holds blocks, whole blocks of one cell, to dst.
func AppendFrame(dst, blocks []byte) ([]byte, error) {
	enc, err := encoder()
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	start := len(dst)
	dst = enc.EncodeAll(blocks, append(dst, codecZstd))
	if len(dst)-start > len(blocks) { // not worth decompressing
		dst = append(append(dst[:start], codecRaw), blocks...)
	}
	return dst, nil
}

// Open checks p against the frame and returns its blocks.
func (f *Frame) Open(p []byte) ([]byte, error) {
	if Sum(p) != f.Hash {
		return nil, fmt.Errorf("frame at %d of %s: hash: %w", f.Offset, f.Object.Key, ErrInvalid)
	}
	blocks, err := decodeFrame(p, bits.OnesCount16(f.Blocks)*BlockSize)
	if err != nil {
		return nil, fmt.Errorf("frame at %d of %s: %w", f.Offset, f.Object.Key, err)
	}
	return blocks, nil
}

func decodeFrame(p []byte, want int) ([]byte, error) {
	if len(p) < frameOverhead {
		return nil, fmt.Errorf("empty frame: %w", ErrInvalid)
	}
	out := p[frameOverhead:]
	switch p[0] {
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
