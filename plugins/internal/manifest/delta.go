package manifest

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const deltaMagic = "RDLT"

// Encode returns the delta's object: header, objects, zeroes, frames, CRC-32C.
func (d *Delta) Encode() []byte {
	p := header(deltaMagic)
	for _, v := range []uint64{d.Epoch, d.After, d.Seq} {
		p = binary.AppendUvarint(p, v)
	}
	p = binary.AppendUvarint(p, uint64(len(d.Objects)))
	for i := range d.Objects {
		p = appendObject(p, &d.Objects[i])
	}
	p = binary.AppendUvarint(p, uint64(len(d.Zeros)))
	for _, z := range d.Zeros {
		p = binary.AppendUvarint(binary.AppendUvarint(p, z.First), z.Count)
	}
	p = binary.AppendUvarint(slices.Grow(p, len(d.Frames)*usualFrame), uint64(len(d.Frames)))
	for i := range d.Frames {
		p = binary.AppendUvarint(p, d.Frames[i].Cell)
		p = appendFrame(p, &d.Frames[i].Frame)
	}
	return checksum(p)
}

// DecodeDelta reads what Encode wrote.
func DecodeDelta(p []byte) (*Delta, error) {
	r, err := newReader(p, deltaMagic)
	if err != nil {
		return nil, fmt.Errorf("decode delta: %w", err)
	}
	d := &Delta{Epoch: r.uvarint(), After: r.uvarint(), Seq: r.uvarint()}
	for range r.count(minObject) {
		d.Objects = append(d.Objects, r.object())
	}
	for range r.count(2) {
		d.Zeros = append(d.Zeros, Range{r.uvarint(), r.uvarint()})
	}
	for range r.count(1 + minFrame) {
		d.Frames = append(d.Frames, CellFrame{Cell: r.uvarint(), Frame: r.frame()})
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("decode delta: %w", err)
	}
	return d, nil
}
