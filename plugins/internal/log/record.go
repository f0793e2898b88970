package log

import (
	"encoding/binary"
	"fmt"
)

// Kind of a record.
type Kind uint8

const (
	// Write carries whole blocks; its payload is aligned to BlockSize in the log.
	Write Kind = 1 + iota
	// Patch carries a byte range inside one block.
	Patch
	// Zero says that whole blocks read as zeroes; it has no payload.
	Zero
	// Fill carries whole blocks that change nothing: a copy of what the owner can have from
	// elsewhere, kept here to be near. It is laid out like Write.
	Fill
)

func (k Kind) blocks() bool { return k == Write || k == Fill }

// Record is one change of the owner's volume.
type Record struct {
	Kind Kind
	// Reserve lets Append use the last part of the log, which is kept for the work that frees it.
	Reserve bool
	// Alone says that whoever appends it begins the flush that may be expected after it: see FlushDue.
	Alone bool
	Off   int64 // in bytes, in the volume
	Len   int64 // in bytes
	// Data is the payload of all but Zero, Len bytes.
	Data []byte
	// Sums are CRC-32C sums of the payload: one for each block of Write and Fill, one for a Patch.
	// Append computes them when they are nil; an owner that knows them saves it a pass.
	Sums []uint32
	Pos  int64 // position of Data in the log
}

// recordHeader is the size of a record in the group's header, in bytes, without its sums.
const recordHeader = 24

// sums is the number of checksums a record of n bytes has.
func (k Kind) sums(n int64) int64 {
	switch k {
	case Write, Fill:
		return n / BlockSize
	case Patch:
		return 1
	default:
		return 0
	}
}

// encode writes the fixed part; at is where the payload begins in the group.
func (r *Record) encode(p []byte, at, n int64) {
	le := binary.LittleEndian
	le.PutUint32(p, uint32(r.Kind))
	le.PutUint32(p[4:], uint32(at))
	le.PutUint64(p[8:], uint64(r.Off))
	le.PutUint64(p[16:], uint64(n))
}

func (r *Record) decode(p []byte) {
	le := binary.LittleEndian
	*r = Record{Kind: Kind(p[0]), Pos: int64(le.Uint32(p[4:])), Off: int64(le.Uint64(p[8:])), Len: int64(le.Uint64(p[16:]))}
}

// check holds a decoded record to what Append can have written: payload from at to end of the
// group. Pos is still relative to the group.
func (r *Record) check(at, end int64) error {
	const maxOffset = 1 << 62 // Off+Len cannot overflow
	if r.Off < 0 || r.Len <= 0 || r.Off > maxOffset || r.Len > maxOffset {
		return fmt.Errorf("range %d+%d: %w", r.Off, r.Len, errInvalid)
	}
	whole := r.Off%BlockSize == 0 && r.Len%BlockSize == 0
	inside := r.Pos >= at && r.Len <= end-r.Pos
	switch r.Kind {
	case Write, Fill:
		if whole && inside && r.Pos%BlockSize == 0 {
			return nil
		}
	case Patch:
		if inside && oneBlock(r.Off, r.Len) {
			return nil
		}
	case Zero:
		if whole {
			return nil
		}
	}
	return fmt.Errorf("kind %d, range %d+%d, payload at %d: %w", r.Kind, r.Off, r.Len, r.Pos, errInvalid)
}

func oneBlock(off, n int64) bool { return off/BlockSize == (off+n-1)/BlockSize }

// verify reports the first of the record's blocks that does not match its sum, or -1. p is the
// record's payload.
func (r *Record) verify(p []byte) int {
	switch {
	case r.Kind == Patch && Checksum(p) != r.Sums[0]:
		return 0
	case r.Kind.blocks():
		for i, sum := range r.Sums {
			if Checksum(p[i*BlockSize:(i+1)*BlockSize]) != sum {
				return i
			}
		}
	}
	return -1
}
