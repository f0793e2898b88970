package log

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	groupMagic  = 0x50524752 // "RGRP"
	groupHeader = 160        // bytes before the first record

	// DefaultSegment and MaxSegment bound a group, header page included, in bytes. Tests use smaller ones.
	DefaultSegment = 4 << 20
	// MaxSegment keeps offsets inside a group within 32 bits, and buffers bearable.
	MaxSegment = 64 << 20
	minSegment = 8 * BlockSize
	// minSegments is the least that a log consists of.
	minSegments = 4
	// minGroup is a header page and a block of payload.
	minGroup = 2 * BlockSize
)

// The header page of a group, little endian:
//
//	  0 magic   4 sum of the page   8 tag   16 position
//	 24 published: records (16 bits), end of records in the page (16), end of payload in the group (32)
//	 32 epoch  40 sequence  48 durable sequence  56 time
//	 64 sum of the previous header  68 length
//	 72 tail: position, sequence 80, previous sum 88  96 mark
//	160 records
//
// published is stored last and at once when a record is added, so that what a killed process
// leaves in the window is whole records.
const (
	atSum       = 4
	atTag       = 8
	atPos       = 16
	atPublished = 24
	atEpoch     = 32
	atSeq       = 40
	atDurable   = 48
	atTime      = 56
	atPrev      = 64
	atLen       = 68
	atTail      = 72
	atMark      = 96
)

// Mark is the owner's, carried by every group: the newest durable one is found again.
type Mark [64]byte

// Cursor is a place between two groups of the log.
type Cursor struct {
	Pos  int64  // where the next group starts
	Seq  uint64 // its sequence number
	Prev uint32 // header checksum of the group before it
}

func (c Cursor) encode(p []byte) {
	binary.LittleEndian.PutUint64(p, uint64(c.Pos))
	binary.LittleEndian.PutUint64(p[8:], c.Seq)
	binary.LittleEndian.PutUint32(p[16:], c.Prev)
}

func decodeCursor(p []byte) Cursor {
	le := binary.LittleEndian
	return Cursor{Pos: int64(le.Uint64(p)), Seq: le.Uint64(p[8:]), Prev: le.Uint32(p[16:])}
}

func (c Cursor) valid() bool { return c.Pos >= 0 && c.Pos%BlockSize == 0 && c.Seq > 0 }

// Group is what was written at once.
type Group struct {
	Epoch   uint64
	Seq     uint64
	Durable uint64 // every group up to this one was durable when this one was written
	Prev    uint32 // header checksum of the group before
	Sum     uint32 // header checksum of this one
	Pos     int64
	Len     int64 // in bytes, with header page and padding
	Time    int64 // wall clock, Unix nanoseconds, for people and age limits only
	// Tail and Mark are the owner's newest when the group was closed.
	Tail    Cursor
	Mark    Mark
	Records []Record

	sums []uint32 // what the records' Sums point into
}

// After is the place behind the group.
func (g *Group) After() Cursor { return Cursor{Pos: g.Pos + g.Len, Seq: g.Seq + 1, Prev: g.Sum} }

// clone does not share anything with g.
func (g *Group) clone() *Group {
	c := *g
	c.Records, c.sums = slices.Clone(g.Records), slices.Clone(g.sums)
	at := 0
	for i := range c.Records {
		n := len(c.Records[i].Sums)
		c.Records[i].Sums = c.sums[at : at+n : at+n]
		at += n
	}
	return &c
}

// published is the word that makes records count.
type published struct {
	records  int
	headEnd  int64 // end of the last record in the header page
	payloads int64 // end of the payload, from the start of the group
}

func (w published) word() uint64 {
	return uint64(w.records) | uint64(w.headEnd)<<16 | uint64(w.payloads)<<32
}

func publishedWord(v uint64) published {
	return published{records: int(v & 0xffff), headEnd: int64(v >> 16 & 0xffff), payloads: int64(v >> 32)}
}

// parseHeader reads a sealed header page into g, reusing its memory. Records have no Data.
func (g *Group) parseHeader(p []byte, tag uint64, segment int64) error {
	le := binary.LittleEndian
	if len(p) < BlockSize || le.Uint32(p) != groupMagic || le.Uint64(p[atTag:]) != tag || !validSum(p[:BlockSize], atSum) {
		return fmt.Errorf("group header: %w", errInvalid)
	}
	g.Sum, g.Epoch, g.Seq, g.Durable = le.Uint32(p[atSum:]), le.Uint64(p[atEpoch:]), le.Uint64(p[atSeq:]), le.Uint64(p[atDurable:])
	g.Prev, g.Time = le.Uint32(p[atPrev:]), int64(le.Uint64(p[atTime:]))
	g.Tail = decodeCursor(p[atTail:])
	copy(g.Mark[:], p[atMark:])
	if !g.Tail.valid() {
		return fmt.Errorf("group %d: tail: %w", g.Seq, errInvalid)
	}
	if err := g.parseRecords(p, segment); err != nil {
		return fmt.Errorf("group %d: %w", g.Seq, err)
	}
	if g.Len != int64(le.Uint32(p[atLen:])) {
		return fmt.Errorf("group %d: length: %w", g.Seq, errInvalid)
	}
	return nil
}

// parseRecords reads what Append stored: position and records. The length follows from them.
func (g *Group) parseRecords(p []byte, segment int64) error {
	le := binary.LittleEndian
	g.Pos = int64(le.Uint64(p[atPos:]))
	w := publishedWord(le.Uint64(p[atPublished:]))
	if g.Pos < 0 || g.Pos%BlockSize != 0 || w.headEnd < groupHeader || w.headEnd > BlockSize ||
		w.payloads < BlockSize || w.payloads > segment-g.Pos%segment {
		return fmt.Errorf("sizes: %w", errInvalid)
	}
	g.Len = groupLen(g.Pos, w.payloads, segment)
	g.Records, g.sums = g.Records[:0], slices.Grow(g.sums[:0], (BlockSize-groupHeader)/4)
	at, payload := int64(groupHeader), int64(BlockSize)
	for i := range w.records {
		if at+recordHeader > w.headEnd {
			return fmt.Errorf("record %d: %w", i, errInvalid)
		}
		var r Record
		r.decode(p[at:])
		at += recordHeader
		if err := r.check(payload, w.payloads); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		n := r.Kind.sums(r.Len)
		if n > (w.headEnd-at)/4 {
			return fmt.Errorf("record %d: sums: %w", i, errInvalid)
		}
		first := len(g.sums)
		for range n {
			g.sums = append(g.sums, le.Uint32(p[at:]))
			at += 4
		}
		r.Sums = g.sums[first:len(g.sums):len(g.sums)]
		if r.Kind != Zero {
			payload = r.Pos + r.Len
		}
		r.Pos += g.Pos
		g.Records = append(g.Records, r)
	}
	if at != w.headEnd {
		return fmt.Errorf("end of records: %w", errInvalid)
	}
	return nil
}

// groupLen is the length on disk of a group at pos whose payload ends there. What would leave
// the segment too short for another group belongs to this one.
func groupLen(pos, payloads, segment int64) int64 {
	n := roundUp(payloads)
	if rest := segment - (pos+n)%segment; rest < minGroup {
		n += rest
	}
	return n
}

// attach gives the records their Data from the whole group p and checks it. It returns the
// first record and block that do not match, or -1.
func (g *Group) attach(p []byte) (record, block int) {
	for i := range g.Records {
		r := &g.Records[i]
		if r.Kind == Zero {
			continue
		}
		r.Data = p[r.Pos-g.Pos:][:r.Len:r.Len]
		if b := r.verify(r.Data); b >= 0 {
			return i, b
		}
	}
	return -1, -1
}
