package flash

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"unicode/utf16"
)

// The table as image/disk writes it: 512-byte sectors, 128 entries of 128 bytes behind the header.
const (
	sector     = 512
	entryCount = 128
	entrySize  = 128
	entryBytes = entryCount * entrySize
	tableEnd   = 2*sector + entryBytes
	// tailSize is the backup: entries, then the header in the last sector.
	tailSize = entryBytes + sector
	// grain is what DATA's end is aligned to.
	grain = 1 << 20
)

const (
	ledgerName = "LEDGER"
	dataName   = "DATA"
)

// table is the first 34 sectors of an image: protective MBR, header, entries.
type table struct{ b []byte }

// parseTable checks a primary table.
func parseTable(b []byte) (table, error) {
	if len(b) < tableEnd {
		return table{}, errors.New("it is too short for a partition table")
	}
	t := table{bytes.Clone(b[:tableEnd])}
	le, h := binary.LittleEndian, t.header()
	if string(h[:8]) != "EFI PART" || le.Uint32(h[12:]) != 92 {
		return table{}, errors.New("it has no GUID partition table")
	}
	if le.Uint64(h[72:]) != 2 || le.Uint32(h[80:]) != entryCount || le.Uint32(h[84:]) != entrySize {
		return table{}, errors.New("its partition table has another layout")
	}
	if le.Uint32(h[16:]) != headerSum(h) || le.Uint32(h[88:]) != crc32.ChecksumIEEE(t.entries()) {
		return table{}, errors.New("its partition table is corrupt")
	}
	return t, nil
}

func (t table) header() []byte  { return t.b[sector : 2*sector] }
func (t table) entries() []byte { return t.b[2*sector:] }

// headerSum is the checksum of a header, which is taken with the checksum's own field zero.
func headerSum(h []byte) uint32 {
	c := bytes.Clone(h[:92])
	clear(c[16:20])
	return crc32.ChecksumIEEE(c)
}

// size of the disk that the table is of, in bytes: the backup of its header is in the last sector.
func (t table) size() int64 {
	last := binary.LittleEndian.Uint64(t.header()[32:])
	return int64(min(last, math.MaxInt64/sector-1)+1) * sector
}

// partition finds an entry by name.
func (t table) partition(name string) []byte {
	want := make([]byte, 72)
	for i, u := range utf16.Encode([]rune(name)) {
		binary.LittleEndian.PutUint16(want[2*i:], u)
	}
	for e := t.entries(); len(e) > 0; e = e[entrySize:] {
		if bytes.Equal(e[56:entrySize], want) {
			return e[:entrySize:entrySize]
		}
	}
	return nil
}

// span is where a partition lies, in bytes; the end is behind it.
func span(entry []byte) (start, end int64) {
	le := binary.LittleEndian
	return int64(le.Uint64(entry[32:])) * sector, int64(le.Uint64(entry[40:])+1) * sector
}

// fit makes the table that of a disk of size bytes: usable up to the end, DATA grown if it is the last partition,
// GUIDs of disk and partitions drawn from random. It returns the primary part and the backup.
func (t table) fit(size int64, random io.Reader) (head, tail []byte, err error) {
	t = table{bytes.Clone(t.b)}
	le, h := binary.LittleEndian, t.header()
	last := uint64(size/sector) - 1
	usable := last - entryBytes/sector - 1
	var end uint64
	for e := t.entries(); len(e) > 0; e = e[entrySize:] {
		if zero(e[:16]) {
			continue
		}
		end = max(end, le.Uint64(e[40:]))
		if err := newGUID(e[16:32], random); err != nil {
			return nil, nil, err
		}
	}
	if end > usable {
		return nil, nil, fmt.Errorf("partitions reach to sector %d, the disk is usable to %d", end, usable)
	}
	if d := t.partition(dataName); d != nil && le.Uint64(d[40:]) == end {
		le.PutUint64(d[40:], max(end, (usable+1)/(grain/sector)*(grain/sector)-1))
	}
	if err := newGUID(h[56:72], random); err != nil {
		return nil, nil, err
	}
	le.PutUint64(h[32:], last)
	le.PutUint64(h[48:], usable)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(t.entries()))
	le.PutUint32(h[16:], headerSum(h))
	// The protective MBR covers the disk, as far as 32 bits reach.
	le.PutUint32(t.b[446+12:], uint32(min(last, 1<<32-1)))

	backup := bytes.Clone(h)
	le.PutUint64(backup[24:], last)
	le.PutUint64(backup[32:], 1)
	le.PutUint64(backup[72:], usable+1)
	le.PutUint32(backup[16:], headerSum(backup))
	return t.b, append(bytes.Clone(t.entries()), backup...), nil
}

// newGUID writes a random GUID (RFC 9562, version 4) in the byte order of partition tables.
func newGUID(b []byte, random io.Reader) error {
	if _, err := io.ReadFull(random, b); err != nil {
		return fmt.Errorf("draw a GUID: %w", err)
	}
	b[7] = b[7]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return nil
}
