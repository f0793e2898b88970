package log

import (
	"fmt"
	"io"
)

// FormatOptions lay out a disk.
type FormatOptions struct {
	UUID [16]byte
	// CheckpointSize is the largest state of the owner, in bytes. There are two areas for it; the
	// log is what is left of the disk, in whole segments.
	CheckpointSize int64
	// Segment is a power of two, in bytes. 0 means DefaultSegment.
	Segment  int64
	UserSize int64
	Label    string
	// FirstSeq is the sequence number of the first group, for a log that continues a
	// history kept elsewhere. 0 means 1.
	FirstSeq uint64
	Mark     Mark
	// State writes the first checkpoint's state; it is called twice. nil means none.
	State func(io.Writer) error
}

// unfinished starts a disk while Format is at work on it.
const unfinished = "RATCHFMT"

// Unfinished reports whether a Format of d was cut short: the disk holds nothing yet and is ours
// to format again.
func Unfinished(d Disk) (bool, error) {
	p := AlignedBuffer(BlockSize)
	if _, err := d.ReadAt(p, 0); err != nil {
		return false, fmt.Errorf("read superblock: %w", err)
	}
	return string(p[:len(unfinished)]) == unfinished, nil
}

// layout divides a disk of size bytes.
func (o *FormatOptions) layout(size int64) (*Superblock, error) {
	s := &Superblock{UUID: o.UUID, UserSize: o.UserSize, Label: o.Label, Segment: o.Segment, Generation: 1}
	if s.Segment == 0 {
		s.Segment = DefaultSegment
	}
	switch {
	case len(o.Label) > maxLabel:
		return nil, fmt.Errorf("label of %d bytes, at most %d", len(o.Label), maxLabel)
	case !validSegment(s.Segment):
		return nil, fmt.Errorf("segment of %d bytes: not a power of two from %d to %d", s.Segment, minSegment, MaxSegment)
	case o.CheckpointSize < 0 || o.CheckpointSize > size || o.UserSize < 0:
		return nil, fmt.Errorf("checkpoint of %d bytes: %w", o.CheckpointSize, ErrTooLarge)
	}
	n := roundUp(o.CheckpointSize) + BlockSize
	s.Checkpoint[0] = Area{headArea, n}
	s.Checkpoint[1] = Area{headArea + n, n}
	off := s.Checkpoint[1].end()
	s.Log = Area{off, max(0, size-off) / s.Segment * s.Segment}
	if s.Log.Len < minSegments*s.Segment {
		return nil, fmt.Errorf("disk of %d bytes, need at least %d: %w", size, off+minSegments*s.Segment, ErrTooLarge)
	}
	return s, nil
}

// Format makes a disk ours and destroys what was on it. A crash in between leaves it as it was,
// Unfinished, or formatted.
func Format(d Disk, o FormatOptions) (*Superblock, error) {
	s, err := o.layout(d.Size())
	if err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	// Old superblocks go first: until the new ones are whole the disk must not look formatted.
	p := AlignedBuffer(headArea)
	copy(p, unfinished)
	if _, err := d.WriteAt(p, 0); err != nil {
		return nil, fmt.Errorf("format: wipe superblocks: %w", err)
	}
	if err := d.Sync(); err != nil {
		return nil, fmt.Errorf("format: sync: %w", err)
	}
	begin := Cursor{Seq: max(o.FirstSeq, 1)}
	for i := range s.Checkpoint {
		c := checkpoint{generation: uint64(i), from: begin, tail: begin, mark: o.Mark, durable: begin.Seq - 1}
		if err := c.store(d, s, o.State, d.Sync); err != nil {
			return nil, fmt.Errorf("format: %w", err)
		}
	}
	if err := s.write(d); err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	return s, nil
}
