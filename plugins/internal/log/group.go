package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	groupMagic   = 0x50524752 // "RGRP"
	groupHeader  = 128
	recordHeader = 32

	// MaxRecords is the number of records that one header page can name.
	MaxRecords = (BlockSize - groupHeader) / recordHeader
	// MaxGroup is the largest group in bytes, header page included.
	MaxGroup = 1 << 20
	// MaxPayload is the most one record can carry.
	MaxPayload = MaxGroup - BlockSize
	// MinLogSize leaves room for a few of the largest groups.
	MinLogSize = 4 * MaxGroup
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
)

// Record is one change of the owner's volume.
type Record struct {
	Kind Kind
	Off  int64  // in bytes, in the volume
	Len  int64  // in bytes
	Data []byte // Write and Patch: Len bytes; valid only as long as the Group is
	Pos  int64  // position of Data in the log
}

// Group is what was committed at once.
type Group struct {
	Epoch   uint64
	Seq     uint64
	Durable uint64 // every group up to this one was durable when this one was written
	Prev    uint32 // header checksum of the group before
	Sum     uint32 // header checksum of this one
	Pos     int64
	Len     int64 // in bytes, with header page
	Time    int64 // wall clock, Unix nanoseconds, for people and age limits only
	Records []Record
}

func updateSum(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// Builder collects the records of one group in an aligned buffer. It is reused.
type Builder struct {
	buf  []byte
	n    int // bytes used, header page included
	recs []Record
}

// NewBuilder returns an empty builder with room for MaxGroup bytes.
func NewBuilder() *Builder {
	return &Builder{buf: AlignedBuffer(MaxGroup), n: BlockSize, recs: make([]Record, 0, MaxRecords)}
}

// Reset forgets all records.
func (b *Builder) Reset() { b.n, b.recs = BlockSize, b.recs[:0] }

// Empty reports whether there are no records.
func (b *Builder) Empty() bool { return len(b.recs) == 0 }

// Bytes is the length that the group has on disk.
func (b *Builder) Bytes() int64 { return roundUp(int64(b.n)) }

// grown is what Bytes would be with r added, and whether r fits at all.
func (b *Builder) grown(r Record) (int64, bool) {
	at := b.place(r)
	return roundUp(int64(at + len(r.Data))), len(b.recs) < MaxRecords && at+len(r.Data) <= MaxGroup
}

func (b *Builder) place(r Record) int {
	if r.Kind == Write {
		return int(roundUp(int64(b.n)))
	}
	return b.n
}

// add copies r's data in. The caller has checked that it fits.
func (b *Builder) add(r Record) {
	if r.Kind != Zero {
		at := b.place(r)
		clear(b.buf[b.n:at])
		copy(b.buf[at:], r.Data)
		b.n = at + len(r.Data)
		r.Data, r.Pos = b.buf[at:b.n], int64(at) // relative until the group has its position
	}
	b.recs = append(b.recs, r)
}

// seal writes the header page for g and returns the bytes to write.
func (b *Builder) seal(g *Group, tag uint64) []byte {
	end := int(b.Bytes())
	clear(b.buf[b.n:end])
	p := b.buf[:end]
	clear(p[:BlockSize])
	le := binary.LittleEndian
	for i := range b.recs {
		r := &b.recs[i]
		h := p[groupHeader+i*recordHeader:]
		h[0] = byte(r.Kind)
		le.PutUint32(h[4:], uint32(r.Pos))
		le.PutUint64(h[8:], uint64(r.Off))
		le.PutUint64(h[16:], uint64(r.Len))
		le.PutUint32(h[24:], Checksum(r.Data))
		r.Pos += g.Pos
	}
	g.Len, g.Records = int64(end), b.recs
	le.PutUint32(p[0:], groupMagic)
	le.PutUint64(p[8:], g.Epoch)
	le.PutUint64(p[16:], g.Seq)
	le.PutUint64(p[24:], g.Durable)
	le.PutUint32(p[32:], g.Prev)
	le.PutUint32(p[36:], uint32(end))
	le.PutUint64(p[40:], uint64(g.Pos))
	le.PutUint64(p[48:], uint64(g.Time))
	le.PutUint64(p[56:], tag)
	le.PutUint16(p[64:], uint16(len(b.recs)))
	g.Sum = Checksum(p[:BlockSize])
	le.PutUint32(p[4:], g.Sum)
	return p
}

// parseHeader reads a header page. Records have no Data yet; payload checksums are returned beside them.
func parseHeader(p []byte, tag uint64) (*Group, []uint32, error) {
	le := binary.LittleEndian
	if len(p) < BlockSize || le.Uint32(p) != groupMagic || le.Uint64(p[56:]) != tag || !validSum(p[:BlockSize], 4) {
		return nil, nil, fmt.Errorf("group header: %w", errInvalid)
	}
	g := &Group{
		Sum: le.Uint32(p[4:]), Epoch: le.Uint64(p[8:]), Seq: le.Uint64(p[16:]), Durable: le.Uint64(p[24:]),
		Prev: le.Uint32(p[32:]), Len: int64(le.Uint32(p[36:])), Pos: int64(le.Uint64(p[40:])), Time: int64(le.Uint64(p[48:])),
	}
	n := int(le.Uint16(p[64:]))
	if n > MaxRecords || g.Len < BlockSize || g.Len > MaxGroup || g.Len%BlockSize != 0 || g.Pos < 0 || g.Pos%BlockSize != 0 {
		return nil, nil, fmt.Errorf("group %d: sizes: %w", g.Seq, errInvalid)
	}
	g.Records = make([]Record, n)
	sums := make([]uint32, n)
	at := int64(BlockSize)
	for i := range g.Records {
		h := p[groupHeader+i*recordHeader:]
		r := &g.Records[i]
		r.Kind, r.Pos = Kind(h[0]), int64(le.Uint32(h[4:]))
		r.Off, r.Len = int64(le.Uint64(h[8:])), int64(le.Uint64(h[16:]))
		sums[i] = le.Uint32(h[24:])
		if err := r.check(at, g.Len); err != nil {
			return nil, nil, fmt.Errorf("group %d: record %d: %w", g.Seq, i, err)
		}
		if r.Kind != Zero {
			at = r.Pos + r.Len
		}
	}
	return g, sums, nil
}

// check holds a record to what a Builder can have written: payload from at to end of the group.
func (r *Record) check(at, end int64) error {
	const maxOffset = 1 << 62 // Off+Len cannot overflow
	if r.Off < 0 || r.Len <= 0 || r.Off > maxOffset || r.Len > maxOffset {
		return fmt.Errorf("range %d+%d: %w", r.Off, r.Len, errInvalid)
	}
	whole := r.Off%BlockSize == 0 && r.Len%BlockSize == 0
	inside := r.Pos >= at && r.Len <= end-r.Pos
	switch r.Kind {
	case Write:
		if whole && inside && r.Pos%BlockSize == 0 {
			return nil
		}
	case Patch:
		if inside && r.Off/BlockSize == (r.Off+r.Len-1)/BlockSize {
			return nil
		}
	case Zero:
		if whole {
			return nil
		}
	}
	return fmt.Errorf("kind %d, range %d+%d, payload at %d: %w", r.Kind, r.Off, r.Len, r.Pos, errInvalid)
}

// parseGroup reads a whole group and checks every payload. Records' Data alias p.
func parseGroup(p []byte, tag uint64) (*Group, error) {
	g, sums, err := parseHeader(p, tag)
	if err != nil {
		return nil, err
	}
	if int64(len(p)) < g.Len {
		return nil, fmt.Errorf("group %d: %d of %d bytes: %w", g.Seq, len(p), g.Len, errInvalid)
	}
	for i := range g.Records {
		r := &g.Records[i]
		if r.Kind != Zero {
			r.Data = p[r.Pos : r.Pos+r.Len]
		}
		if Checksum(r.Data) != sums[i] {
			return nil, fmt.Errorf("group %d: record %d: payload checksum: %w", g.Seq, i, errInvalid)
		}
		r.Pos += g.Pos
	}
	return g, nil
}
