package index

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A dump is a run of items in the order of the volume:
//
//	'z' first block after the last item (uvarint), count (uvarint), place (4)   zero blocks
//	'c' cell after the last item's (uvarint), mask (2), an entry (8) for each bit   the rest of a cell
//	'e' number of items (8)
const (
	itemZero = 'z'
	itemCell = 'c'
	itemEnd  = 'e'
)

// DumpMax is the most bytes that a dump of so many placed blocks takes when they lie in cells of their own,
// for sizing what a dump is written to.
func DumpMax(placed int64) int64 { return placed*(1+binary.MaxVarintLen64+2+8) + 16 }

// ErrInvalid means that bytes are no dump, or not one of this volume.
var ErrInvalid = errors.New("invalid index dump")

// Dump writes the entries of the first blocks that refer to the log; patched ones are the owner's to keep. Changes may
// go on meanwhile: an entry is as it was at some moment during the dump.
func (x *Index) Dump(w io.Writer, blocks uint64) error {
	d := dumper{w: bufio.NewWriterSize(w, 64<<10)}
	out := new(Chunk)
	for c := range (blocks + BlocksPerChunk - 1) / BlocksPerChunk {
		whole, uniform := x.Snapshot(c, out)
		first := c * BlocksPerChunk
		n := min(BlocksPerChunk, blocks-first)
		if uniform {
			if whole.Placed() {
				d.zero(first, n, whole)
			}
			continue
		}
		clear(out[n:])
		for i := 0; i < BlocksPerChunk; i += BlocksPerCell {
			d.cell(first+uint64(i), out[i:i+BlocksPerCell])
		}
	}
	d.flushZero()
	var end [9]byte
	end[0] = itemEnd
	binary.LittleEndian.PutUint64(end[1:], d.items)
	d.write(end[:])
	if d.err == nil {
		d.err = d.w.Flush()
	}
	if d.err != nil {
		return fmt.Errorf("dump index: %w", d.err)
	}
	return nil
}

type dumper struct {
	w     *bufio.Writer
	err   error
	items uint64
	cells uint64 // the cell after the last one written
	ends  uint64 // the block after the last zero run written
	run   struct {
		first, n uint64
		e        Entry
	}
}

func (d *dumper) write(p []byte) {
	if d.err == nil {
		_, d.err = d.w.Write(p)
	}
}

// zero joins a run to the one before it, if they touch and have one cause.
func (d *dumper) zero(first, n uint64, e Entry) {
	if d.run.n > 0 && d.run.e == e && d.run.first+d.run.n == first {
		d.run.n += n
		return
	}
	d.flushZero()
	d.run.first, d.run.n, d.run.e = first, n, e
}

func (d *dumper) flushZero() {
	if d.run.n == 0 {
		return
	}
	var b [1 + 2*binary.MaxVarintLen64 + 4]byte
	b[0] = itemZero
	n := 1 + binary.PutUvarint(b[1:], d.run.first-d.ends)
	n += binary.PutUvarint(b[n:], d.run.n)
	binary.LittleEndian.PutUint32(b[n:], d.run.e.Place())
	d.write(b[:n+4])
	d.ends = d.run.first + d.run.n
	d.run.n = 0
	d.items++
}

func (d *dumper) cell(first uint64, entries []Entry) {
	var b [1 + binary.MaxVarintLen64 + 2 + 8*BlocksPerCell]byte
	var mask uint16
	for i, e := range entries {
		switch {
		case e.IsData():
			mask |= 1 << i
		case e.Placed():
			d.zero(first+uint64(i), 1, e)
		}
	}
	if mask == 0 {
		return
	}
	b[0] = itemCell
	cell := first / BlocksPerCell
	n := 1 + binary.PutUvarint(b[1:], cell-d.cells)
	d.cells = cell + 1
	binary.LittleEndian.PutUint16(b[n:], mask)
	n += 2
	for i, e := range entries {
		if mask&(1<<i) != 0 {
			binary.LittleEndian.PutUint64(b[n:], uint64(e))
			n += 8
		}
	}
	d.write(b[:n])
	d.items++
}

// Load fills an empty index from a dump, as far as keep agrees with an entry. Zeroes behind the last block are left out:
// the volume may have been larger when the dump was made.
func (x *Index) Load(r io.Reader, keep func(Entry) bool) error {
	br, ok := r.(*bufio.Reader)
	if !ok {
		br = bufio.NewReaderSize(r, 64<<10)
	}
	l := loader{x: x, r: br, keep: keep}
	for {
		kind, err := br.ReadByte()
		if err != nil {
			return fmt.Errorf("load index: %w: %w", ErrInvalid, err)
		}
		switch kind {
		case itemZero:
			err = l.zero()
		case itemCell:
			err = l.cell()
		case itemEnd:
			var n uint64
			if err = binary.Read(br, binary.LittleEndian, &n); err == nil && n == l.items {
				return nil
			}
			return fmt.Errorf("load index: %d items, %d announced: %w", l.items, n, ErrInvalid)
		default:
			err = fmt.Errorf("item %#x: %w", kind, ErrInvalid)
		}
		if err != nil {
			return fmt.Errorf("load index: item %d: %w", l.items, err)
		}
		l.items++
	}
}

// maxBlocks is more than any volume has, and sums of two do not overflow.
const maxBlocks = 1 << 62

type loader struct {
	x                  *Index
	r                  *bufio.Reader
	keep               func(Entry) bool
	items, cells, ends uint64
}

func (l *loader) uvarint() (uint64, error) {
	n, err := binary.ReadUvarint(l.r)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return n, nil
}

func (l *loader) bytes(p []byte) error {
	if _, err := io.ReadFull(l.r, p); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func (l *loader) zero() error {
	skip, err := l.uvarint()
	if err != nil {
		return err
	}
	n, err := l.uvarint()
	if err != nil {
		return err
	}
	var b [4]byte
	if err := l.bytes(b[:]); err != nil {
		return err
	}
	left := maxBlocks - l.ends
	if skip > left || n > left-skip {
		return fmt.Errorf("zeroes outside any volume: %w", ErrInvalid)
	}
	first := l.ends + skip
	l.ends = first + n
	n = min(l.ends, l.x.Blocks()) - min(first, l.x.Blocks())
	e := Zero(binary.LittleEndian.Uint32(b[:]))
	if n == 0 || !l.keep(e) {
		return nil
	}
	if err := l.x.PrepareZero(); err != nil {
		return err
	}
	l.x.Fill(first, n, e)
	return nil
}

func (l *loader) cell() error {
	skip, err := l.uvarint()
	if err != nil {
		return err
	}
	cells := (l.x.Blocks() + BlocksPerCell - 1) / BlocksPerCell
	if l.cells >= cells || skip >= cells-l.cells {
		return fmt.Errorf("cell outside the volume: %w", ErrInvalid)
	}
	cell := l.cells + skip
	l.cells = cell + 1
	var b [8]byte
	if err := l.bytes(b[:2]); err != nil {
		return err
	}
	mask := binary.LittleEndian.Uint16(b[:])
	if err := l.x.Prepare(cell*BlocksPerCell, BlocksPerCell); err != nil {
		return err
	}
	for i := range uint64(BlocksPerCell) {
		if mask&(1<<i) == 0 {
			continue
		}
		if err := l.bytes(b[:]); err != nil {
			return err
		}
		e := Entry(binary.LittleEndian.Uint64(b[:]))
		block := cell*BlocksPerCell + i
		if !e.IsData() || block >= l.x.Blocks() {
			return fmt.Errorf("entry %#x of block %d: %w", uint64(e), block, ErrInvalid)
		}
		if l.keep(e) {
			l.x.Set(block, e)
		}
	}
	return nil
}
